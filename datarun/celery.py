"""The Celery application; workers are started with `celery --app datarun worker`."""

import os
import warnings
from typing import Any

from celery import Celery, signals
from celery.exceptions import SecurityWarning
from django.conf import settings

from datarun.broker import PatientAMQP
from datarun.forks import cut_off_in_children

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "datarun.settings")

# Celery warns of a worker run by root because pickled messages could be code; ours are JSON.
warnings.filterwarnings("ignore", category=SecurityWarning)
# Told at each loss of a broker, about a setting that is set.
warnings.filterwarnings("ignore", message="\nIn Celery 5.1 we introduced an optional breaking")

app = Celery("datarun", amqp=PatientAMQP)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.steps["worker"].add("runapp.execution.worker:Ticker")


@signals.worker_init.connect
def keep_connections_from_slots(**_: Any) -> None:
    """See to it, before the pool forks, that no slot gets hold of its parent's connections."""
    cut_off_in_children(database=settings.DATABASES["default"])
