"""How quickly datarun answers: from POST to a submission's first line, and a light GET.

Run from the project folder: `python -m bench.latency`. The reference of the GETs is a request
to the same server that ends at the router (an unknown path, 404): what HTTP and Django cost
without account, database and serialiser.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import requests

from test_files import post_api
from test_files.demo_server import PROJECT, Server, serving
from test_files.examples import IRIS

# The first line tells the time; both ends read the same clock of one machine.
SUBMISSION = """\
import time; print("first line at", repr(time.time()))
import numpy as np


class Classifier:
    def fit(self, X, y):
        self.n_classes = len(set(y))

    def predict_proba(self, X):
        return np.full((len(X), self.n_classes), 1 / self.n_classes)
"""


def main() -> None:
    arguments = _read_arguments()
    with serving() as server:
        raw_data_id = _post_dataset(server)
        starts = [_time_start(server, raw_data_id, number) for number in range(arguments.folds)]
        token = _create_token(server)
        gets = _time_gets(server, token, arguments.gets)
    print(f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}")
    print(f"{'':34}{'median ms':>12}{'95th ms':>12}{'over 404':>12}")
    _print_row("POST to first line, idle worker", starts)
    reference = statistics.median(gets["unknown path (404)"])
    for name, seconds in gets.items():
        _print_row(name, seconds, reference)


def _time_start(server: Server, raw_data_id: int, number: int) -> float:
    """Post one fold to an idle worker; seconds until its submission's first line ran."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "classifier.py")
        path.write_text(SUBMISSION)
        rows = np.arange(50)
        posted_at = time.time()
        _check(
            post_api.post_submission_fold(
                *server.credentials,
                1,
                number,
                rows,
                rows,
                raw_data_id=raw_data_id,
                list_submission_files=[str(path)],
            )
        )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        # Leaves the machine to the worker while it starts the fold.
        time.sleep(0.5)
        row = _check(post_api.get_submission_fold_detail(*server.credentials, number))
        if row["state"] in ("TESTED", "ERROR"):
            break
    if row["state"] != "TESTED":
        raise SystemExit(f"fold {number}: {row['state']}: {row['log_messages']}")
    return float(row["log_messages"].split()[-1]) - posted_at


def _time_gets(server: Server, token: str, count: int) -> dict[str, list[float]]:
    """Time light GETs in turn; seconds by name."""
    session = requests.Session()
    url = f"{server.host_url}runapp/rawdata/"
    basic = (server.username, server.password)
    headers = {"Authorization": f"Token {token}"}
    kinds: dict[str, Callable[[], requests.Response]] = {
        "unknown path (404)": lambda: session.get(f"{server.host_url}nothing/"),
        "light GET, Basic": lambda: session.get(url, auth=basic),
        "light GET, Token": lambda: session.get(url, headers=headers),
    }
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for get in kinds.values():
        get()  # the first Basic request pays for the password's strong hash
    for _ in range(count):
        for name, get in kinds.items():
            started = time.perf_counter()
            get()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def _post_dataset(server: Server) -> int:
    posted = post_api.post_data(
        *server.credentials, "iris", IRIS.target, IRIS.elements, str(IRIS.data_file)
    )
    raw_data_id = int(_check(posted)["id"])
    assert IRIS.held_out_test is not None
    _check(post_api.post_split(*server.credentials, IRIS.held_out_test, raw_data_id))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        time.sleep(0.2)
        if _check(post_api.get_raw_data(*server.credentials))[0]["state"] == "READY":
            return raw_data_id
    raise SystemExit("the dataset was not split within a minute")


def _create_token(server: Server) -> str:
    command = [sys.executable, "manage.py", "createtoken", server.username]
    environment = {**os.environ, "DATARUN_HOME": str(server.log_path.parent)}
    made = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, check=True)
    return made.stdout.decode().strip()


def _check(response: requests.Response) -> Any:
    response.raise_for_status()
    return response.json()


def _print_row(name: str, seconds: list[float], reference: float | None = None) -> None:
    median = statistics.median(seconds)
    late = statistics.quantiles(seconds, n=20)[-1]
    ratio = f"{median / reference:>12.2f}" if reference else ""
    print(f"{name:34}{median * 1000:>12.1f}{late * 1000:>12.1f}{ratio}")


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folds", type=int, default=30)
    parser.add_argument("--gets", type=int, default=200)
    return parser.parse_args()


if __name__ == "__main__":
    main()
