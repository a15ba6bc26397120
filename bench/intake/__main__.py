"""How many folds are accepted a second, one by one and in bulk, on SQLite and PostgreSQL.

Run from the project folder: `python -m bench.intake`. PostgreSQL is measured where it answers
(`DATARUN_TEST_POSTGRES`). A real web server of two processes takes folds of distinct submissions,
first without a worker; single posts are the reference of bulk requests of the same round. Then a
real worker trains in both slots, and the reference is the same server while nothing runs. Writes
`intake.md` into `bench/results`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.databases import DATABASES, make_database
from bench.intake.bodies import FOLDS_OF_SUBMISSION, N_INDICES, Bodies
from bench.intake.posting import Bulk, post_bulk, post_singly, time_rate
from bench.intake.report import AIM_HEADERS, HEADERS, Report, make_aims, make_rows
from bench.intake.service import create_account, post_dataset, training
from bench.machine import describe_machine
from bench.overhead.report import render_table
from bench.web import PROJECT, Client, Web, serve

N_PROCESSES = 2
N_THREADS = 4
N_ROUNDS = 2
N_SINGLE, N_BULK, N_LARGE = 400, 2_000, 10_000
TOLD_VERSIONS = ("django", "djangorestframework", "orjson", "gunicorn", "celery")


def main() -> None:
    """Measure, print and write the figures."""
    arguments = _read_arguments()
    machine = describe_machine(sys.argv[1:], module="bench.intake", packages=TOLD_VERSIONS)
    reports = [measure(name, arguments) for name in arguments.databases]
    text = render_page(reports, machine, arguments)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "intake.md").write_text(text)
    print(text)


def measure(database: str, arguments: argparse.Namespace) -> Report:
    """Post to a server on a database of its own."""
    with make_database(database) as environment:
        token = create_account(environment)
        with serve(environment, n_processes=N_PROCESSES) as web:
            bodies = Bodies(post_dataset(Client(web.port, token=token), environment))
            # First, as a server that has answered large requests grows no more.
            large = post_bulk(web, bodies.make_submissions(arguments.large), token=token)
            print(f"{database}: {large}", file=sys.stderr)
            rates = [_time_rates(web, bodies, token, arguments) for _ in range(arguments.rounds)]
            print(f"{database}: {rates}", file=sys.stderr)
            posts = [
                _time_posts(web, bodies, token, environment, arguments.single)
                for _ in range(arguments.rounds)
            ]
    single, bulk = zip(*rates, strict=True)
    idle, busy = zip(*posts, strict=True)
    return Report(database, single=single, bulk=bulk, idle=idle, busy=busy, large=large)


def _time_rates(
    web: Web, bodies: Bodies, token: str, arguments: argparse.Namespace
) -> tuple[float, Bulk]:
    """Return the rate of single posts, and what a bulk request took just after them."""
    single = bodies.make_submissions(arguments.single)
    rate = time_rate(web, single, token=token, n_threads=N_THREADS)
    return rate, post_bulk(web, bodies.make_submissions(arguments.bulk), token=token)


def _time_posts(
    web: Web, bodies: Bodies, token: str, environment: Mapping[str, str], count: int
) -> tuple[list[float], list[float]]:
    """Return seconds of single posts while nothing runs, and while the slots train."""
    idle = post_singly(web, bodies.make_submissions(count), token=token, n_threads=1)
    with training(environment):
        busy = post_singly(web, bodies.make_submissions(count), token=token, n_threads=1)
    return idle, busy


def render_page(
    reports: Sequence[Report], machine: Sequence[str], arguments: argparse.Namespace
) -> str:
    """Return the page of all figures."""
    sections = [
        "# How many folds are accepted, and how quickly",
        f"Over HTTP with a token, {N_PROCESSES} server processes, submissions of "
        f"{FOLDS_OF_SUBMISSION} folds of {N_INDICES} training rows with a file of their own: "
        f"median [minimum-maximum] of {arguments.rounds} rounds. Single posts come from "
        f"{N_THREADS} clients at once, those whose time is told one after the other "
        f"({arguments.single} in each round).",
    ]
    for report in reports:
        sections += [
            f"## {report.database}",
            render_table(HEADERS, make_rows(report)),
            render_table(AIM_HEADERS, make_aims(report)),
        ]
    return "\n\n".join([*sections, "\n".join(f"* {line}" for line in machine)]) + "\n"


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--databases", nargs="+", choices=DATABASES, default=list(DATABASES))
    parser.add_argument("--rounds", type=int, default=N_ROUNDS)
    parser.add_argument("--single", type=int, default=N_SINGLE, help="single posts of a round")
    parser.add_argument("--bulk", type=int, default=N_BULK, help="folds of a bulk request")
    parser.add_argument("--large", type=int, default=N_LARGE, help="folds of the largest request")
    parser.add_argument("--output", type=Path, default=PROJECT / "bench" / "results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
