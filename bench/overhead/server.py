"""The contender behind HTTP, a queue and a database claim: a real `serve`, as a client sees it."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import requests

from bench.overhead.probe import describe_all, read_probe, write_probe
from bench.overhead.work import SLOTS, Answer, Indices, Timed, Unavailable, Work
from test_files import post_api
from test_files.demo_server import Server, serving
from test_files.examples import RANDOM_STATE, list_submission_files

WAIT_SECONDS = 300
# Seldom: a poller on the same processors would be part of what is measured.
POLL_SECONDS = 1.0
N_PROBES = 30
WARM, TIMED, PROBE = 1, 2, 3  # numbers of the submissions
START_PART = "claim to first line"


def measure_server(work: Work) -> Timed:
    """Train over HTTP; seconds from the first start to the last finish by the server's times."""
    if os.cpu_count() != SLOTS:
        raise Unavailable(f"`serve` takes one slot per core, and this host has not {SLOTS}")
    with serving() as server:
        client = _Client(server, work)
        client.warm_up()
        rows = client.train(work.folds, submission=TIMED, files=_list_files(work), is_held=True)
        answers = client.fetch(rows)
        probes = client.probe()
    starts, ends = (_read_moments(rows, name) for name in ("started_at", "finished_at"))
    return Timed(
        seconds=max(ends) - min(starts),
        digests=tuple(answer.digest for answer in answers),
        parts={START_PART: time_starts(probes)},
        isolation=describe_all([read_probe(row["log_messages"]) for row in probes]),
    )


def time_starts(rows: Sequence[dict[str, Any]]) -> tuple[float, ...]:
    """Return seconds from the claim of each fold to its submission's first line."""
    # Both clocks are the machine's; the claim's moment is the database's.
    return tuple(
        read_probe(row["log_messages"])["first_line_at"] - claimed
        for row, claimed in zip(rows, _read_moments(rows, "started_at"), strict=True)
    )


def _read_moments(rows: Sequence[dict[str, Any]], name: str) -> list[float]:
    return [datetime.fromisoformat(row[name]).timestamp() for row in rows]


def _decode(row: dict[str, Any]) -> Answer:
    train, test = (
        post_api.decode_predictions(row[name], row[f"{name}_shape"])
        for name in ("full_train_predictions", "test_predictions")
    )
    return Answer(train, test)


def _list_files(work: Work) -> list[Path]:
    return list_submission_files(work.submission)


class _Client:
    """Posts folds of one work and waits for them."""

    def __init__(self, server: Server, work: Work) -> None:
        self._server = server
        self._work = work
        self._n_posted = 0

    def warm_up(self) -> None:
        """Train small folds, so that the keepers of both slots have started."""
        # They train for a while: one slot alone does not get through before the other has begun.
        folds = [self._work.warm_fold] * (4 * SLOTS)
        self.train(folds, submission=WARM, files=_list_files(self._work), is_held=True)

    def probe(self) -> list[dict[str, Any]]:
        """Run folds that tell when they started and what they see, while both slots are busy."""
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            path = Path(folder, "classifier.py")
            path.write_text(write_probe())
            folds = [self._work.folds[0]] * N_PROBES
            return self.train(folds, submission=PROBE, files=[path], is_held=False)

    def train(
        self, folds: Sequence[Indices], *, submission: int, files: list[Path], is_held: bool
    ) -> list[dict[str, Any]]:
        """Post folds, wait until all are done and return them as the server shows them.

        With `is_held` they belong to a dataset that is split only when all are posted, so that
        posting is not part of the figure.
        """
        if is_held:
            self._post_dataset(name=f"{self._work.name} {submission}")
        numbers = range(self._n_posted, self._n_posted + len(folds))
        self._n_posted += len(folds)
        for number, train_is in zip(numbers, folds, strict=True):
            _check(
                post_api.post_submission_fold(
                    *self._server.credentials,
                    submission,
                    number,
                    train_is,
                    train_is,
                    raw_data_id=self._raw_data_id,
                    list_submission_files=files,
                )
            )
        if is_held:
            self._split_by_force()
        return self._wait_for(numbers)

    def fetch(self, rows: Sequence[dict[str, Any]]) -> list[Answer]:
        """Get the predictions of folds, in the order of the rows."""
        numbers = [row["databoard_sf_id"] for row in rows]
        found = _check(post_api.get_prediction_list(*self._server.credentials, numbers))
        by_number = {row["databoard_sf_id"]: row for row in found}
        return [_decode(by_number[number]) for number in numbers]

    def _post_dataset(self, *, name: str) -> None:
        posted = post_api.post_data(
            *self._server.credentials,
            name,
            self._work.target,
            "classifier",
            self._work.csv_path,
        )
        self._raw_data_id = _check(posted)["id"]

    def _split_by_force(self) -> None:
        # The dataset has folds that wait already: the server wants to be told that this is meant.
        body = {
            "raw_data_id": self._raw_data_id,
            "held_out_test": self._work.held_out,
            "random_state": RANDOM_STATE,
            "force": True,
        }
        url = f"{self._server.host_url}runapp/rawdata/split/"
        auth = (self._server.username, self._server.password)
        _check(requests.post(url, json=body, auth=auth, timeout=60))

    def _wait_for(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        _wait_until(lambda: self._are_done(numbers))
        details = _check(post_api.get_submission_fold(*self._server.credentials))
        rows = {row["databoard_sf_id"]: row for row in details}
        wanted = [rows[number] for number in numbers]
        failed = [row["log_messages"] for row in wanted if row["state"] != "TESTED"]
        if failed:
            raise RuntimeError(f"{len(failed)} folds are not TESTED: {failed[0]}")
        return wanted

    def _are_done(self, numbers: Sequence[int]) -> bool:
        self._server.check_alive()
        rows = _check(post_api.get_submission_fold_light(*self._server.credentials))
        states = {row["databoard_sf_id"]: row["state"] for row in rows}
        return all(states[number] in ("TESTED", "ERROR") for number in numbers)


def _wait_until(is_done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_done():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not all folds were done within {WAIT_SECONDS} s")
        time.sleep(POLL_SECONDS)


def _check(response: requests.Response) -> Any:
    response.raise_for_status()
    return response.json()
