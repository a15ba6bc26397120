"""A hint that the broker refuses: nothing may depend on it."""

from __future__ import annotations

import pytest
from amqp.exceptions import PreconditionFailed
from django.db import transaction

from datarun.celery import app
from runapp.scheduling import dispatch


@pytest.mark.django_db(transaction=True)
def test_hint_that_the_broker_refuses_fails_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        # As RabbitMQ does when the queue is there already with other arguments.
        raise PreconditionFailed("inequivalent arg 'x-message-ttl' for queue 'datarun'")

    monkeypatch.setattr(dispatch, "_paused_until", 0.0)
    monkeypatch.setattr(app, "send_task", refuse)

    with transaction.atomic():
        task_id = dispatch.ring()

    assert task_id
