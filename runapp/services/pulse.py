"""Whether to go on while blobs are on their way, which may take longer than a lease."""

from __future__ import annotations

import time
from collections.abc import Callable

from runapp.storage import Pulse

SECONDS_BETWEEN = 1.0


class Interrupted(Exception):
    """The work that the blobs are for is not wanted any more, or the worker leaves."""


def make_pulse(should_stop: Callable[[], bool]) -> Pulse:
    """Return a pulse that asks about once a second whether to go on.

    Parameters
    ----------
    should_stop : callable
        True ends the transfer with `Interrupted`.
    """
    asked_at = time.monotonic()

    def pulse() -> None:
        nonlocal asked_at
        if time.monotonic() - asked_at < SECONDS_BETWEEN:
            return
        asked_at = time.monotonic()
        if should_stop():
            raise Interrupted

    return pulse
