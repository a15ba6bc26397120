"""Whether a claim is still held: asked once a second while its run goes on.

In a thread of its own where folds are run for real: however long the database takes to answer, or
not to, the run is metered and limited meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Self

from django.conf import settings
from django.db import Error, connections

from runapp.storage import Pulse

logger = logging.getLogger(__name__)

ASK_SECONDS = 1.0
SECONDS_BETWEEN = 1.0


class Heartbeat:
    """Asks the database at each call, and renews the lease when that is due.

    Parameters
    ----------
    name : str
        Of what is held, for the log.
    check, renew : callable
        Tell whether it is still held; the second renews the lease too.
    is_leaving : callable
        True when the worker shuts down and its grace has passed.
    """

    def __init__(
        self,
        *,
        name: str,
        check: Callable[[], bool],
        renew: Callable[[], bool],
        is_leaving: Callable[[], bool],
    ) -> None:
        self._name = name
        self._check = check
        self._renew = renew
        self._is_leaving = is_leaving
        self._beaten_at = time.monotonic()
        self._started_at = time.monotonic()
        self._ended_at: float | None = None
        self.has_left = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def seconds(self) -> float:
        """How long the run has taken, or takes so far; what is waited after it does not count."""
        return (self._ended_at or time.monotonic()) - self._started_at

    def note_end(self) -> None:
        """Note that the run is over; the claim is still held, to record what came of it."""
        self._ended_at = time.monotonic()

    def should_stop(self) -> bool:
        """Tell whether the run is to be ended: the worker leaves, or the claim is lost."""
        self.has_left = self.has_left or self._is_leaving()
        return self.has_left or self._is_lost()

    def _is_lost(self) -> bool:
        return not self._ask()

    def _ask(self) -> bool:
        try:
            if time.monotonic() - self._beaten_at < settings.HEARTBEAT_SECONDS:
                return self._check()
            is_held = self._renew()
        except Error as error:
            # The lease outlives a short absence of the database; after a long one the next answer
            # tells whether another has taken over.
            logger.warning("%s: no heartbeat: %s", self._name, error)
            return True
        self._beaten_at = time.monotonic()
        return is_held


class ThreadedHeartbeat(Heartbeat):
    """Asks in a thread, once a second; a run of less than that is never asked about."""

    def __enter__(self) -> Self:
        self._is_over = threading.Event()
        self._was_lost = threading.Event()
        # What it logs belongs to the same request.
        run = partial(copy_context().run, self._beat_on)
        threading.Thread(target=run, name="heartbeat", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # Not waited for: it may hang on the database, and a late renewal finds nothing to renew.
        self._is_over.set()

    def _is_lost(self) -> bool:
        return self._was_lost.is_set()

    def _beat_on(self) -> None:
        while not (self._is_over.wait(ASK_SECONDS) or self._was_lost.is_set()):
            if not self._ask():
                self._was_lost.set()
            # Made anew for each beat: between two of them a slot holds one connection, not two.
            connections.close_all()


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
