"""How much a fold costs beyond its own computation: 100 folds of iris with a small forest.

Run from the project folder: `python -m bench.folds`. Each round trains the same folds

* bare: two processes that have everything imported and do nothing else,
* datarun: posted over HTTP, two slots; from the first start to the last finish by the server's
  own times (all folds are posted before the dataset is split, so that posting is not counted),
* cold: a new Python for each of some of the folds, two at a time,

and the table shows the medians of the rounds and the ratios to bare of the same round.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from multiprocessing.synchronize import Barrier
from typing import Any

import numpy as np
import requests
from numpy.typing import NDArray

from test_files import local, post_api
from test_files.demo_server import Server, serving
from test_files.examples import IRIS, RANDOM_STATE

SLOTS = 2
SUBMISSION = IRIS.folder / "submissions" / "forest"
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Round:
    """Seconds of one round, from the first start to the last finish."""

    bare: float
    datarun: float
    cold: float | None


def main() -> None:
    arguments = _read_arguments()
    folds = make_folds(arguments.folds)
    rounds = []
    with serving() as server:
        for number in range(arguments.rounds):
            rounds.append(
                Round(
                    bare=time_bare(folds),
                    datarun=time_datarun(server, folds, number),
                    cold=time_cold(folds[: arguments.cold]) if arguments.cold else None,
                )
            )
            print(f"round {number + 1} of {arguments.rounds}: {rounds[-1]}", file=sys.stderr)
    print_table(rounds, n_folds=len(folds), n_cold=arguments.cold)


def make_folds(count: int) -> list[Indices]:
    """Return training rows of distinct folds: random two thirds of the train part."""
    n_rows = round(150 * (1 - (IRIS.held_out_test or 0)))
    random = np.random.default_rng(0)
    return [np.sort(random.permutation(n_rows)[: n_rows * 2 // 3]) for _ in range(count)]


def time_bare(folds: Sequence[Indices]) -> float:
    """Train in two bare processes at once; seconds from their common start to the last end."""
    barrier = multiprocessing.get_context("spawn").Barrier(SLOTS + 1)
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_train_bare, args=(folds[slot::SLOTS], barrier))
        for slot in range(SLOTS)
    ]
    for process in processes:
        process.start()
    barrier.wait()
    started = time.perf_counter()
    barrier.wait()
    seconds = time.perf_counter() - started
    for process in processes:
        process.join()
    return seconds


def _train_bare(folds: Sequence[Indices], barrier: Barrier) -> None:
    train = _prepare_bare()
    train(folds[0])  # whatever is imported at first use
    barrier.wait()
    for train_is in folds:
        train(train_is)
    barrier.wait()


def _prepare_bare() -> Callable[[Indices], Any]:
    sys.path.insert(0, str(SUBMISSION))
    from classifier import Classifier  # type: ignore[import-not-found]

    X_train, y_train, X_test, _ = _split()

    def train(train_is: Indices) -> Any:
        model = Classifier()
        model.fit(X_train[train_is], y_train[train_is])
        return model.predict_proba(X_train), model.predict_proba(X_test)

    return train


def _split() -> tuple[Any, Any, Any, Any]:
    assert IRIS.held_out_test is not None
    parts = local.split_standard(
        csv_path=IRIS.data_file,
        target_column=IRIS.target,
        held_out_test=IRIS.held_out_test,
        random_state=RANDOM_STATE,
    )
    return parts.X_train.to_numpy(), parts.y_train, parts.X_test.to_numpy(), parts.y_test


def time_cold(folds: Sequence[Indices]) -> float:
    """Train each fold in a new Python, two at a time; seconds in all."""
    started = time.perf_counter()
    with ThreadPoolExecutor(SLOTS) as pool:
        list(pool.map(_train_cold, folds))
    return time.perf_counter() - started


def _train_cold(train_is: Indices) -> None:
    code = (
        "import json, sys, numpy as np; from bench.folds import _prepare_bare; "
        "_prepare_bare()(np.array(json.loads(sys.argv[1])))"
    )
    subprocess.run([sys.executable, "-c", code, json.dumps(train_is.tolist())], check=True)


def time_datarun(server: Server, folds: Sequence[Indices], number: int) -> float:
    """Train over HTTP; seconds from the first start to the last finish by the server's times."""
    name = f"iris {number}"
    posted = post_api.post_data(
        *server.credentials, name, IRIS.target, IRIS.elements, str(IRIS.data_file)
    )
    raw_data_id = _check(posted)["id"]
    first = number * len(folds)
    for offset, train_is in enumerate(folds):
        _check(
            post_api.post_submission_fold(
                *server.credentials,
                number,
                first + offset,
                train_is,
                train_is,
                raw_data_id=raw_data_id,
                list_submission_files=sorted(SUBMISSION.glob("*.py")),
            )
        )
    _split_by_force(server, raw_data_id)
    rows = _wait_for(server, range(first, first + len(folds)))
    starts = [datetime.fromisoformat(row["started_at"]) for row in rows]
    ends = [datetime.fromisoformat(row["finished_at"]) for row in rows]
    return (max(ends) - min(starts)).total_seconds()


def _split_by_force(server: Server, raw_data_id: int) -> None:
    # The dataset has folds that wait already, so the server wants to be told that this is meant.
    body = {
        "raw_data_id": raw_data_id,
        "held_out_test": IRIS.held_out_test,
        "random_state": RANDOM_STATE,
        "force": True,
    }
    url = f"{server.host_url}runapp/rawdata/split/"
    auth = (server.username, server.password)
    _check(requests.post(url, json=body, auth=auth, timeout=60))


def _wait_for(server: Server, numbers: Sequence[int]) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        # Seldom: a poller on the same two processors would be part of what is measured.
        time.sleep(1)
        rows = _check(post_api.get_submission_fold_light(*server.credentials))
        states = {row["databoard_sf_id"]: row["state"] for row in rows}
        if all(states[number] in ("TESTED", "ERROR") for number in numbers):
            break
    details = _check(post_api.get_submission_fold(*server.credentials))
    wanted = [row for row in details if row["databoard_sf_id"] in numbers]
    failed = [row["log_messages"] for row in wanted if row["state"] != "TESTED"]
    if failed:
        raise SystemExit(f"{len(failed)} folds are not TESTED: {failed[0]}")
    return wanted


def _check(response: Any) -> Any:
    response.raise_for_status()
    return response.json()


def print_table(rounds: Sequence[Round], *, n_folds: int, n_cold: int) -> None:
    """Print medians, and minimum and maximum of the ratios."""
    print(f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}")
    print(f"{n_folds} folds of iris, a forest of 10 trees, {SLOTS} at a time")
    print(f"{'':10}{'ms a fold and slot':>20}{'over bare (min .. max)':>28}")
    bare = [one.bare / n_folds * SLOTS for one in rounds]
    for name, per_fold in (
        ("bare", bare),
        ("datarun", [one.datarun / n_folds * SLOTS for one in rounds]),
        ("cold", [(one.cold or 0) / n_cold * SLOTS for one in rounds] if n_cold else []),
    ):
        if per_fold:
            ratios = [value / reference for value, reference in zip(per_fold, bare, strict=True)]
            spread = f"{min(ratios):.2f} .. {max(ratios):.2f}"
            median = statistics.median(per_fold) * 1000
            print(f"{name:10}{median:>20.1f}{statistics.median(ratios):>12.2f} ({spread})")


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folds", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cold", type=int, default=10, help="cold folds a round; 0 for none")
    return parser.parse_args()


if __name__ == "__main__":
    # Spawned processes import this file; the numerical libraries read this when they are loaded.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    main()
