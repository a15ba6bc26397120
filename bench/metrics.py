"""What a scrape costs the database, with 1,000 and 100,000 folds waiting.

Run from the project folder: `python -m bench.metrics`. PostgreSQL is measured where it answers
(`DATARUN_TEST_POSTGRES`). The reference is one probe of an index by the same process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from bench.claims.claimers import fill_queue
from bench.databases import DATABASES, make_database

SIZES = (1_000, 100_000)
N_ROUNDS = 20


def main() -> None:
    arguments = _read_arguments()
    if arguments.measure:
        _measure()
        return
    print(f"{'':12}{'waiting':>9}{'probe ms':>10}{'scrape ms':>11}{'95th':>8}{'queries':>9}")
    for name in arguments.databases:
        for size in arguments.sizes:
            with make_database(name) as environment:
                fill_queue(n_folds=size, environment=environment)
                command = [sys.executable, "-m", "bench.metrics", "--measure"]
                print(f"{name:12}{size:>9}", end="", flush=True)
                subprocess.run(command, env={**os.environ, **environment}, check=True)


def _measure() -> None:
    """Print the figures of the database of the environment."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "datarun.settings")
    django.setup()
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from runapp.models import SubmissionFold
    from runapp.monitoring.metrics import collect_database

    scrapes = _time(collect_database)
    probes = _time(lambda: SubmissionFold.objects.only("pk").last())
    with CaptureQueriesContext(connection) as queries:
        collect_database()
    print(
        f"{statistics.median(probes) * 1e3:>10.2f}{statistics.median(scrapes) * 1e3:>11.1f}"
        f"{statistics.quantiles(scrapes, n=20)[-1] * 1e3:>8.1f}{len(queries):>9}",
        flush=True,
    )


def _time(call: Callable[[], object]) -> list[float]:
    call()
    seconds = []
    for _ in range(N_ROUNDS):
        began_at = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began_at)
    return seconds


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--databases", nargs="+", default=list(DATABASES))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
