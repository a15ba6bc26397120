"""Requests that are held until there is something new (`Prefer: wait=N`, RFC 7240).

A request that waits keeps a thread, which sleeps, and nothing else: no process, no connection to
the database. One thread of each process looks at the clock of changes for all that wait there.
More than the settings' number do not wait in a process: they are answered at once, and told to come
back.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable

from django.conf import settings
from django.db import Error, connections

from runapp.http.streams import release_connection
from runapp.lists.feed import read_clock

logger = logging.getLogger(__name__)

MOST_SECONDS = 20
RETRY_AFTER_SECONDS = 2
_LOOK_SECONDS = 0.25
_WAIT = re.compile(
    r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?=$|[,;])", re.ASCII | re.IGNORECASE
)

# The web server's own word on whether it is about to end (datarun/web.py).
is_ending: Callable[[], bool] = lambda: False  # noqa: E731 - it is replaced


def parse_prefer(header: str) -> int | None:
    """Return the seconds of a `Prefer` header's wait, None when it asks for none."""
    found = _WAIT.search(header)
    return None if found is None else min(int(found[1]), MOST_SECONDS)


class Watch:
    """Tells those who wait when the clock of changes has moved."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._clock: int | None = None
        self._n_waiting = 0
        self._is_looking = False

    def wait(self, is_new: Callable[[], bool], *, seconds: float) -> bool:
        """Wait until `is_new` answers true, and for that long at most.

        Parameters
        ----------
        is_new : callable
            Asks the database; called at once, and again whenever anything has changed.
        seconds : float
            How long to wait.

        Returns
        -------
        bool
            False when too many wait already: then it was asked once and not waited for.
        """
        deadline = time.monotonic() + seconds
        with self._changed:
            has_room = self._n_waiting < settings.WEB_WAITERS
            self._n_waiting += has_room
        if not has_room:
            return is_new()
        try:
            self._wait(is_new, deadline)
        finally:
            with self._changed:
                self._n_waiting -= 1
        return True

    def _wait(self, is_new: Callable[[], bool], deadline: float) -> None:
        # The clock is read before the question is asked: what changes meanwhile is not slept over.
        seen = read_clock()
        while not is_new() and not is_ending():
            release_connection()
            with self._changed:
                self._start_looking()
                while self._clock in (None, seen) and not is_ending():
                    left = deadline - time.monotonic()
                    if left <= 0:
                        return
                    self._changed.wait(left)
                seen = self._clock if self._clock is not None else seen

    def _start_looking(self) -> None:
        if not self._is_looking:
            self._is_looking = True
            self._clock = None
            threading.Thread(target=self._look, name="clock", daemon=True).start()

    def _look(self) -> None:
        """Look at the clock as long as anybody waits."""
        try:
            while self._tell(self._read()):
                time.sleep(_LOOK_SECONDS)
        finally:
            # Whatever ended it: who waits from now on starts another.
            with self._changed:
                self._is_looking = False

    def _tell(self, clock: int | None) -> bool:
        """Wake those who wait if the clock has moved; tell whether there is anybody."""
        with self._changed:
            if clock != self._clock or is_ending():
                self._clock = clock
                self._changed.notify_all()
            # Under the lock under which others begin to wait: none of them counts on this thread.
            self._is_looking = self._n_waiting > 0
            return self._is_looking

    def _read(self) -> int | None:
        try:
            return read_clock()
        except Error as error:
            # Those who wait go on; who is asked next finds out for himself.
            logger.warning("the clock of changes could not be read: %s", error)
            return None
        finally:
            connections.close_all()


WATCH = Watch()
