"""The ASGI entry point, for servers that speak it."""

import os

from django.core.asgi import get_asgi_application

from datarun.pool import pool_connections

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "datarun.settings")
pool_connections()

application = get_asgi_application()
