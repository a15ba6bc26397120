"""Fills a queue and claims from it; run as a process of its own, as each slot of a worker is.

`python -m bench.claims.queue fill --folds N` migrates the database of `DATABASE_URL` and posts;
`claim` waits for a line on its standard input, claims until nothing waits (or `--most`) and prints
what it got as JSON, and how long a transaction of one row took after each claim; `plan` prints the
plan.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

N_ACCOUNTS = 20
N_DATASETS = 2
FOLDS_OF_SUBMISSION = 10
_BATCH = 2_000


def main() -> None:
    arguments = _read_arguments()
    _set_up()
    if arguments.action == "fill":
        _fill(arguments.folds)
    elif arguments.action == "plan":
        from runapp.scheduling.queue import explain_head

        print(explain_head())
    else:
        print(json.dumps(_claim_all(most=arguments.most)))


def _set_up() -> None:
    import os

    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "datarun.settings")
    django.setup()


def _fill(n_folds: int) -> None:
    from django.contrib.auth.models import User
    from django.core.management import call_command

    from runapp.models import RawData

    call_command("migrate", interactive=False, verbosity=0)
    datasets = []
    for number in range(N_ACCOUNTS):
        owner = User.objects.create(username=f"account{number}")
        datasets += [
            RawData.objects.create(
                owner=owner,
                name=f"data{place}",
                target_column="y",
                workflow_elements="classifier",
                files={},
                state=RawData.State.READY,
            )
            for place in range(N_DATASETS)
        ]
    _post_folds(datasets, n_folds)
    _analyze()


def _post_folds(datasets: list[Any], n_folds: int) -> None:
    from django.db.models.functions import Now

    from runapp.models import Submission, SubmissionFold

    indices = zlib.compress(bytes(80))
    submissions = Submission.objects.bulk_create(
        Submission(
            owner=dataset.owner, raw_data=dataset, databoard_s_id=number, files={}, hash_files=""
        )
        for number in range(-(-n_folds // FOLDS_OF_SUBMISSION))
        for dataset in [datasets[number % len(datasets)]]
    )
    SubmissionFold.objects.bulk_create(
        (
            SubmissionFold(
                owner=submission.owner,
                submission=submission,
                raw_data_id=submission.raw_data_id,
                databoard_sf_id=number,
                rank=number % FOLDS_OF_SUBMISSION,
                priority="HL"[number % 10 > 0],
                train_is=indices,
                test_is=indices,
                queued_at=Now(),
                # A row without is one of this transaction.
                change_seq=number,
            )
            for number in range(n_folds)
            for submission in [submissions[number // FOLDS_OF_SUBMISSION]]
        ),
        batch_size=_BATCH,
    )


def _analyze() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def _claim() -> int | None:
    from runapp.scheduling.claims import claim_fold

    fold = claim_fold(worker="bench/1")
    return None if fold is None else fold.pk


def _finish(key: int) -> int:
    """End a claimed fold: the least that a transaction costs here.

    So as many folds run at a time as there are processes, as with real slots.
    """
    from runapp.models import SubmissionFold

    return SubmissionFold.objects.filter(pk=key).update(phase="done", state="ERROR")


def _claim_all(*, most: int) -> dict[str, Any]:
    from django.db import connection

    connection.ensure_connection()
    print("ready", flush=True)
    sys.stdin.readline()
    keys: list[int] = []
    claims: list[float] = []
    commits: list[float] = []
    started = time.time()
    while len(keys) < most:
        seconds, key = _time(_claim)
        if key is None:
            break
        keys.append(key)
        claims.append(seconds)
        commits.append(_time(partial(_finish, key))[0])
    return {
        "keys": keys,
        "claims": claims,
        "commits": commits,
        "started": started,
        "ended": time.time(),
    }


def _time(act: Callable[[], int | None]) -> tuple[float, int | None]:
    before = time.perf_counter()
    answer = act()
    return time.perf_counter() - before, answer


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["fill", "claim", "plan"])
    parser.add_argument("--folds", type=int, default=1_000)
    parser.add_argument("--most", type=int, default=10**9)
    return parser.parse_args()


if __name__ == "__main__":
    main()
