"""Posts folds, one by one and in bulk, and takes the time."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from bench.memory import watch_growth
from bench.web import Client, Web

_FOLDS = "/runapp/submissionfold/"
_BULK = "/runapp/submissionfold/bulk/"
Submissions = Sequence[Sequence[dict[str, Any]]]


@dataclass(frozen=True)
class Bulk:
    """What one bulk request took.

    Attributes
    ----------
    n_folds : int
        How many were posted.
    seconds : float
        From sending to having read the whole answer.
    growth_bytes : int
        By how much a server's process grew meanwhile, at most.
    """

    n_folds: int
    seconds: float
    growth_bytes: int

    @property
    def rate(self) -> float:
        """Folds a second."""
        return self.n_folds / self.seconds


def post_singly(web: Web, submissions: Submissions, *, token: str, n_threads: int) -> list[float]:
    """Post folds one by one over connections that are kept; seconds of each post."""
    with ThreadPoolExecutor(n_threads) as pool:
        parts = pool.map(
            lambda part: _post_each(Client(web.port, token=token), part),
            [submissions[number::n_threads] for number in range(n_threads)],
        )
        return [seconds for part in parts for seconds in part]


def time_rate(web: Web, submissions: Submissions, *, token: str, n_threads: int) -> float:
    """Post folds one by one, several clients at once; folds accepted in a second."""
    started = time.perf_counter()
    posted = post_singly(web, submissions, token=token, n_threads=n_threads)
    return len(posted) / (time.perf_counter() - started)


def _post_each(client: Client, submissions: Submissions) -> list[float]:
    # Those of one submission in order: the first brings the files.
    bodies = [json.dumps(body).encode() for folds in submissions for body in folds]
    return [client.ask(_FOLDS, method="POST", body=body).seconds for body in bodies]


def post_bulk(web: Web, submissions: Submissions, *, token: str) -> Bulk:
    """Post all folds in one request."""
    client = Client(web.port, token=token)
    folds = [body for some in submissions for body in some]
    body = json.dumps(folds).encode()
    answer, growth = watch_growth(
        lambda: client.ask(_BULK, method="POST", body=body), processes=web.processes
    )
    statuses = {one["status"] for one in json.loads(answer.content)}
    if statuses != {201}:
        raise RuntimeError(f"not all folds were taken: {statuses}")
    return Bulk(len(folds), answer.seconds, growth)
