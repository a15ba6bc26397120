"""What the operators' pages cost with 1,000 and with 100,000 folds.

Run from the project folder: `python -m bench.ops`. On SQLite and, where it answers, PostgreSQL,
each page is asked for by a client in this process, by turns with few and with many folds; told are
the median times, their ratio and the number of queries.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from bench.databases import DATABASES, make_database

FEW, MANY = 1000, 100_000
# Half of the folds are of one dataset: its page is full of them at either size.
N_DATASETS, FOLDS_OF_SUBMISSION = 10, 20
N_REQUESTS = 30
MOST_TIMES_SLOWER, MOST_QUERIES = 1.5, 8
# Of each ten folds two wait and one has failed; the others were tested.
_WAITING, _FAILED = 2, 1
_N_RARE = 5
_STEP_SECONDS = 3


def main() -> None:
    """Measure and print, each database and size in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--databases", nargs="+", choices=DATABASES, default=DATABASES)
    parser.add_argument("--inside", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        _measure_inside(arguments.inside)
        return
    for name in arguments.databases:
        few, many = (_measure(name, n_folds) for n_folds in (FEW, MANY))
        for page, (seconds, n_queries) in many.items():
            ratio = seconds / few[page][0]
            print(
                f"{name}, {page}: {few[page][0] * 1000:.1f} and {seconds * 1000:.1f} ms, "
                f"{ratio:.2f} times (aim at most {MOST_TIMES_SLOWER:g}), "
                f"{n_queries} queries (at most {MOST_QUERIES})"
            )


def _measure(database: str, n_folds: int) -> dict[str, tuple[float, int]]:
    with make_database(database) as environment:
        done = subprocess.run(
            [sys.executable, "-m", "bench.ops", "--inside", str(n_folds)],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    return {page: (float(seconds), int(n_queries)) for page, seconds, n_queries in rows}


def _measure_inside(n_folds: int) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "datarun.settings"
    import django

    django.setup()
    from django.test.utils import setup_test_environment

    setup_test_environment()
    client, pages = _fill(n_folds)
    for name, path in pages.items():
        seconds, n_queries = _ask(client, path)
        print(f"{name}\t{seconds}\t{n_queries}")


def _fill(n_folds: int) -> tuple[Any, Mapping[str, str]]:
    """Make the folds; return a client that an operator has signed in, and the pages."""
    from django.contrib.auth.models import Group, User
    from django.core.management import call_command
    from django.db import connection
    from django.test import Client

    from runapp.models import RawData, SubmissionFold

    call_command("migrate", verbosity=0)
    owner = User.objects.create_user("owner")
    operator = User.objects.create_user("operator")
    operator.groups.add(Group.objects.get_or_create(name="operators")[0])
    _fill_folds(owner, n_folds)
    _make_rare()
    with connection.cursor() as cursor:
        # As the database itself does after a while.
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")
    client = Client()
    client.force_login(operator, "django.contrib.auth.backends.ModelBackend")
    dataset = RawData.objects.latest("pk")
    ended = SubmissionFold.objects.filter(state="TESTED").latest("pk")
    waiting = SubmissionFold.objects.filter(phase="waiting").latest("pk")
    return client, {
        "overview": "/ops/",
        "folds": "/ops/folds/",
        "folds that failed": "/ops/folds/?state=ERROR",
        "folds that wait, of a dataset": f"/ops/folds/?dataset={dataset.pk}&state=waiting",
        "folds by their end": "/ops/folds/?sort=-ended",
        "folds of an age": "/ops/folds/?sort=queued&older_than=5m",
        "folds of a submission": "/ops/folds/?submission=1",
        "folds by their memory": "/ops/folds/?sort=-memory",
        "folds of a dataset by their CPU": f"/ops/folds/?dataset={dataset.pk}&sort=cpu",
        "folds of a worker": "/ops/folds/?worker=bench@host",
        "few folds of a worker": "/ops/folds/?worker=rare",
        "folds of no worker": "/ops/folds/?worker=none",
        "few folds of an account": "/ops/folds/?owner=rare",
        "few folds of high priority": "/ops/folds/?priority=H",
        "few folds of two kinds": "/ops/folds/?state=ERROR&error_code=cpu_limit&owner=rare",
        "folds older than any": "/ops/folds/?older_than=9999d",
        "a fold": f"/ops/folds/{ended.pk}/",
        # Its place is a part that the page asks for itself.
        "a fold that waits": f"/ops/folds/{waiting.pk}/ /ops/folds/{waiting.pk}/place/",
        "datasets": "/ops/datasets/",
        "a dataset": f"/ops/datasets/{dataset.pk}/",
        "a submission": f"/ops/submissions/{dataset.submissions.latest('pk').pk}/",
        "an account": "/ops/accounts/owner/",
    }


def _fill_folds(owner: Any, n_folds: int) -> None:
    from runapp.models import RawData, Submission, SubmissionFold

    datasets = [
        RawData.objects.create(owner=owner, name=f"set {n}", files={}, state="READY", n_bytes=1000)
        for n in range(N_DATASETS)
    ]
    submissions = Submission.objects.bulk_create(
        Submission(
            owner=owner,
            raw_data=datasets[-1 if n % 2 else n // 2 % N_DATASETS],
            databoard_s_id=n,
            files={"classifier.py": "0" * 64},
            hash_files="0" * 64,
        )
        for n in range(n_folds // FOLDS_OF_SUBMISSION)
    )
    for start in range(0, n_folds, FEW):
        numbers = range(start, start + FEW)
        SubmissionFold.objects.bulk_create(_make_folds(owner, submissions, numbers, n_folds))


def _make_rare() -> None:
    """Turn some of the oldest folds into such as only a search finds."""
    from django.contrib.auth.models import User

    from runapp.models import SubmissionFold

    failed = SubmissionFold.objects.filter(state="ERROR").order_by("pk")
    oldest = list(failed.values_list("pk", flat=True)[:_N_RARE])
    SubmissionFold.objects.filter(pk__in=oldest).update(
        owner=User.objects.create_user("rare"),
        error_code="cpu_limit",
        priority="H",
        worker="rare@host/1/2",
    )


def _make_folds(owner: Any, submissions: list[Any], numbers: range, n_folds: int) -> Iterator[Any]:
    from datetime import timedelta

    from django.utils import timezone

    from runapp.models import SubmissionFold

    now = timezone.now()
    for n in numbers:
        submission = submissions[n // FOLDS_OF_SUBMISSION]
        queued_at = now - timedelta(seconds=(n_folds - n) * _STEP_SECONDS)
        yield SubmissionFold(
            owner=owner,
            submission=submission,
            raw_data_id=submission.raw_data_id,
            databoard_sf_id=n,
            rank=n % FOLDS_OF_SUBMISSION,
            train_is=b"\0" * 500,
            test_is=b"\0" * 200,
            queued_at=queued_at,
            change_seq=n,
            **_make_end(n, queued_at),
        )


def _make_end(n: int, queued_at: Any) -> dict[str, Any]:
    place = n % 10
    if place < _WAITING:
        return {}
    is_failed = place < _WAITING + _FAILED
    return {
        "phase": "done",
        "state": "ERROR" if is_failed else "TESTED",
        "error_code": "submission_error" if is_failed else None,
        "log_messages": "a line of a log\n" * 20,
        "started_at": queued_at,
        "finished_at": queued_at,
        "train_time": 1.0 + place,
        "test_time": 0.5,
        "train_cpu_time": 1.0,
        "train_memory": 10_000.0 + n % 1000,
        "worker": "bench@host/1/2",
        "attempt": 1,
        "predictions_bytes": 100,
    }


def _ask(client: Any, path: str) -> tuple[float, int]:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    n_queries = 0
    for part in path.split():
        with CaptureQueriesContext(connection) as queries:
            _get(client, part)
            n_queries = max(n_queries, len(queries))
    return statistics.median(_time(client, path) for _ in range(N_REQUESTS)), n_queries


def _time(client: Any, path: str) -> float:
    began_at = time.perf_counter()
    for part in path.split():
        _get(client, part)
    return time.perf_counter() - began_at


def _get(client: Any, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200, (path, response.status_code)


if __name__ == "__main__":
    main()
