"""The Celery tasks: the doorbell of a slot, and the reaper that Celery beat may call."""

from __future__ import annotations

from celery import shared_task

from runapp.execution import worker
from runapp.scheduling import dispatch
from runapp.scheduling.claims import reap_expired
from runapp.scheduling.fair_share import decay_shares


@shared_task(name=dispatch.TASK_NAME, ignore_result=True, acks_late=False)
def work() -> None:
    """Run what waits until nothing does; the message itself says nothing."""
    worker.run_until_idle()


@shared_task(name="runapp.tasks.reap", ignore_result=True, acks_late=False)
def reap() -> None:
    """Return what silent workers held; every worker's main process does so too."""
    reap_expired()
    decay_shares()
