"""The Celery application; workers are started with `celery --app datarun worker`."""

import os
import warnings

from celery import Celery
from celery.exceptions import SecurityWarning

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "datarun.settings")

# Celery warns of a worker run by root because pickled messages could be code; ours are JSON.
warnings.filterwarnings("ignore", category=SecurityWarning)

app = Celery("datarun")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
