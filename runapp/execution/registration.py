"""Workers register, are heard of, and leave."""

from __future__ import annotations

import socket

from django.db.models.functions import Now

from runapp.execution.fitness import read_versions
from runapp.models import Worker
from runapp.runner.selftest.promises import SelfTest


def beat(*, name: str, slots: int, self_test: SelfTest | None = None) -> None:
    """Register a worker, or say that it is still there.

    Parameters
    ----------
    name : str
        Of the worker, unlike any other's.
    slots : int
        How many folds it runs at once.
    self_test : SelfTest or None, optional
        What it found about itself; None while it does not know yet.
    """
    # All of it each time: the row may be another worker's of the same name, which was killed.
    record = {
        "slots": slots,
        "seen_at": Now(),
        "promises": None if self_test is None else sorted(self_test.kept),
        "self_test": None if self_test is None else self_test.to_json(),
        "versions": read_versions(),
    }
    Worker.objects.update_or_create(
        name=name,
        defaults=record,
        create_defaults={"host": socket.gethostname(), "started_at": Now(), **record},
    )


def leave(*, name: str) -> None:
    """Take a worker off the list."""
    Worker.objects.filter(name=name).delete()
