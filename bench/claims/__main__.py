"""What a claim costs on SQLite and PostgreSQL, with 1,000 to 100,000 folds waiting.

Run from the project folder: `python -m bench.claims`. PostgreSQL is measured where it answers
(`DATARUN_TEST_POSTGRES`). The reference is a bare change of one row by the same process on the same
database, just after each claim: a claim is a transaction, and cannot be quicker than one. Of the
eight processes each claims and ends folds, which is two transactions.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
from contextlib import ExitStack

from bench.claims.claimers import Timed, claim_at_once, explain_claim, fill_queue
from bench.databases import DATABASES, make_database

SIZES = (1_000, 10_000, 100_000)
N_ROUNDS = 5
N_PROCESSES = 8


def main() -> None:
    arguments = _read_arguments()
    print(f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}")
    print(
        f"{'':12}{'waiting':>9}{'commit ms':>11}{'claim ms':>10}{'95th':>8}{'over commit':>13}"
        f"{'8 at once, /s':>15}{'twice':>7}"
    )
    for name in arguments.databases:
        _measure(name, arguments.sizes)


def _measure(name: str, sizes: list[int]) -> None:
    with ExitStack() as stack:
        environments = {size: stack.enter_context(make_database(name)) for size in sizes}
        for size, environment in environments.items():
            fill_queue(n_folds=size, environment=environment)
        alone: dict[int, list[Timed]] = {size: [] for size in sizes}
        # In turns, so that a busy moment of the machine meets every size.
        for _ in range(N_ROUNDS):
            for size, environment in environments.items():
                alone[size] += claim_at_once(n_processes=1, most=40, environment=environment)
        for size, environment in environments.items():
            many = claim_at_once(n_processes=N_PROCESSES, most=70, environment=environment)
            _print_row(name, size, alone[size], many)
        first, last = (statistics.median(_join(alone[size])) for size in (sizes[0], sizes[-1]))
        print(f"{name}: {sizes[-1]} waiting folds make a claim cost {last / first:.2f} times")
        print(f"\n{explain_claim(environment=environments[sizes[-1]])}\n")


def _join(timed: list[Timed]) -> list[float]:
    return [seconds for one in timed for seconds in one.claims]


def _print_row(name: str, size: int, alone: list[Timed], many: list[Timed]) -> None:
    claims = _join(alone)
    reference = statistics.median(seconds for one in alone for seconds in one.commits)
    keys = [key for timed in [*alone, *many] for key in timed.keys]
    seconds = max(timed.ended for timed in many) - min(timed.started for timed in many)
    rate = sum(len(timed.keys) for timed in many) / seconds
    median = statistics.median(claims)
    print(
        f"{name:12}{size:>9}{reference * 1e3:>11.2f}{median * 1e3:>10.2f}"
        f"{statistics.quantiles(claims, n=20)[-1] * 1e3:>8.2f}{median / reference:>13.2f}"
        f"{rate:>15.0f}{len(keys) - len(set(keys)):>7}"
    )


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--databases", nargs="+", default=list(DATABASES))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    return parser.parse_args()


if __name__ == "__main__":
    main()
