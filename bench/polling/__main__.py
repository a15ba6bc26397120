"""What a poller's requests cost on SQLite and PostgreSQL, with 1,000 to 100,000 folds.

Run from the project folder: `python -m bench.polling`. PostgreSQL is measured where it answers
(`DATARUN_TEST_POSTGRES`). Each database is filled, and served by a real web server; the reference
is a plain serializer on the same rows, asked just after it. Writes `polling.md` and `polling.png`
into `bench/results`; the plot needs matplotlib, which gets an environment of its own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.databases import DATABASES, make_database
from bench.machine import describe_machine
from bench.polling.asking import Poller, make_poller
from bench.polling.fill import N_NEW
from bench.polling.output import write_page
from bench.polling.report import Report, Sample
from bench.web import PROJECT

SIZES = (1_000, 10_000, 100_000)
N_ROUNDS = 2
# What takes milliseconds is asked so often in each round.
REPEATS = 15
TOLD_VERSIONS = ("django", "djangorestframework", "orjson", "gunicorn")


def main() -> None:
    """Measure, print and write the figures."""
    arguments = _read_arguments()
    machine = describe_machine(sys.argv[1:], module="bench.polling", packages=TOLD_VERSIONS)
    reports = [
        measure(name, arguments.sizes, n_rounds=arguments.rounds) for name in arguments.databases
    ]
    print(write_page(reports, machine, arguments.output))


def measure(database: str, sizes: Sequence[int], *, n_rounds: int) -> Report:
    """Ask for everything, with each number of folds."""
    with ExitStack() as stack:
        pollers = {}
        for size in sizes:
            environment = stack.enter_context(make_database(database))
            pollers[size] = stack.enter_context(make_poller(environment, n_folds=size))
            print(f"{database}: {size} folds are served", file=sys.stderr)
        queries = {
            (size, kind): count
            for size, poller in pollers.items()
            for kind, count in poller.count_queries().items()
        }
        rounds = []
        for number in range(n_rounds):
            rounds.append(list(_ask_all(list(pollers.values()))))
            print(f"{database}: round {number + 1} of {n_rounds}", file=sys.stderr)
    return Report(database, sizes, rounds, queries)


def _ask_all(pollers: Sequence[Poller]) -> Iterator[Sample]:
    """Ask for everything once, in turns: a busy moment of the machine meets every size."""
    for poller in pollers:
        yield from poller.ask_long()
    for _ in range(REPEATS):
        for poller in pollers:
            yield from poller.ask_page()
    # Last, as it changes what the others ask for.
    for _ in range(REPEATS):
        for poller in pollers:
            yield from poller.ask_changes()


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--databases", nargs="+", choices=DATABASES, default=list(DATABASES))
    parser.add_argument("--sizes", nargs="+", type=_read_size, default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=N_ROUNDS)
    parser.add_argument("--output", type=Path, default=PROJECT / "bench" / "results")
    return parser.parse_args()


def _read_size(text: str) -> int:
    size = int(text)
    if size < N_NEW:
        raise argparse.ArgumentTypeError(f"at least {N_NEW} folds are needed")
    return size


if __name__ == "__main__":
    main()
