"""Workers register, are heard of, and leave."""

from __future__ import annotations

import socket

from django.db.models.functions import Now

from runapp.models import Worker


def beat(*, name: str, slots: int) -> None:
    """Register a worker, or say that it is still there."""
    Worker.objects.update_or_create(
        name=name,
        defaults={"slots": slots, "seen_at": Now()},
        create_defaults={
            "host": socket.gethostname(),
            "slots": slots,
            "started_at": Now(),
            "seen_at": Now(),
        },
    )


def leave(*, name: str) -> None:
    """Take a worker off the list."""
    Worker.objects.filter(name=name).delete()
