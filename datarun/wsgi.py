"""The WSGI entry point of the web server."""

import os

from django.core.wsgi import get_wsgi_application

from datarun.pool import pool_connections

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "datarun.settings")
pool_connections()

application = get_wsgi_application()
