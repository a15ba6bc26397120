"""The Celery task: the doorbell of a slot."""

from __future__ import annotations

from celery import shared_task

from runapp import dispatch, slots


@shared_task(name=dispatch.TASK_NAME, ignore_result=True, acks_late=False)
def work() -> None:
    """Run what waits until nothing does; the message itself says nothing."""
    slots.run_until_idle()
