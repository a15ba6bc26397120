"""How quick other requests are while many clients wait for news, over how quick they are alone.

Run from the project folder: `python -m bench.waiting`. A real web server of two processes, on
SQLite and, where it answers, PostgreSQL. Fifty clients hold a request each by `Prefer: wait`, and
keep to `Retry-After`; beside them one asks for the light list, by turns with and without them.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from bench.databases import DATABASES, make_database
from bench.intake.service import create_account
from bench.web import Client, Web, serve

N_PROCESSES = 2
N_WAITERS = 50
N_REQUESTS = 200
N_ROUNDS = 3
MOST_TIMES_SLOWER = 2.0
_PATH = "/runapp/submissionfold-light/"
_SETTLE_SECONDS = 3.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=N_ROUNDS)
    parser.add_argument("--databases", nargs="+", choices=DATABASES, default=DATABASES)
    arguments = parser.parse_args()
    for name in arguments.databases:
        with make_database(name) as environment:
            print(f"{name}: {measure(environment, n_rounds=arguments.rounds)}")


def measure(environment: Mapping[str, str], *, n_rounds: int) -> str:
    """Ask alone and beside those who wait, by turns; return a line of figures."""
    token = create_account(environment)
    with serve(environment, n_processes=N_PROCESSES) as web:
        _time_requests(web, token)
        rounds = [_measure_round(web, token) for _ in range(n_rounds)]
    ratios = [beside / alone for alone, beside, _ in rounds]
    alone, beside, n_held = (statistics.median(values) for values in zip(*rounds, strict=True))
    return (
        f"median of a light list {alone * 1000:.1f} ms alone, {beside * 1000:.1f} ms beside "
        f"{n_held:.0f} of {N_WAITERS} that were held: {statistics.median(ratios):.2f} times "
        f"[{min(ratios):.2f}-{max(ratios):.2f}], aim at most {MOST_TIMES_SLOWER:g}"
    )


def _measure_round(web: Web, token: str) -> tuple[float, float, float]:
    alone = _time_requests(web, token)
    with waiting(web, token) as held:
        time.sleep(_SETTLE_SECONDS)
        beside = _time_requests(web, token)
        n_held = len(held)
    return alone, beside, float(n_held)


def _time_requests(web: Web, token: str) -> float:
    client = Client(web.port, token=token)
    return statistics.median(client.ask(_PATH).seconds for _ in range(N_REQUESTS))


@contextmanager
def waiting(web: Web, token: str) -> Iterator[set[int]]:
    """Let clients wait; yield the numbers of those that are held now."""
    is_over, held = threading.Event(), set[int]()
    cursor = Client(web.port, token=token).ask(_PATH).headers["Datarun-Cursor"]

    def wait(number: int) -> None:
        client = Client(web.port, token=token)
        while not is_over.is_set():
            held.add(number)
            answer = client.ask(f"{_PATH}?updated_since={cursor}", headers={"Prefer": "wait=5"})
            if "Retry-After" in answer.headers:
                held.discard(number)
                is_over.wait(float(answer.headers["Retry-After"]))

    with ExitStack() as stack:
        threads = [threading.Thread(target=wait, args=(number,)) for number in range(N_WAITERS)]
        for thread in threads:
            thread.start()
            stack.callback(thread.join)
        stack.callback(is_over.set)
        yield held


if __name__ == "__main__":
    main()
