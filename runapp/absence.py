"""How long to leave something alone that does not answer."""

from __future__ import annotations

import random
import time

FIRST_SECONDS = 1.0
MOST_SECONDS = 5.0


class Absence:
    """The absence of a server: tries that get rarer, up to one in about five seconds.

    The waits are random, so that the workers of many machines do not all come back at one moment.
    """

    def __init__(self) -> None:
        self._tries = 0
        self._next_try_at = 0.0

    def is_over_or_due(self) -> bool:
        """Tell whether to try: it answered the last time, or the wait is over."""
        return time.monotonic() >= self._next_try_at

    def lengthen(self) -> float:
        """Count a try that failed; return how many seconds to wait until the next."""
        most = min(FIRST_SECONDS * 2**self._tries, MOST_SECONDS)
        self._tries = min(self._tries + 1, 10)
        seconds = random.uniform(most / 2, most)  # noqa: S311 - nothing to guess here
        self._next_try_at = time.monotonic() + seconds
        return seconds

    def end(self) -> bool:
        """Count an answer; tell whether it was missed before."""
        was_missed = self._tries > 0
        self._tries, self._next_try_at = 0, 0.0
        return was_missed
