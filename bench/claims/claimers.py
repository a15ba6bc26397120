"""Several processes that claim from one queue at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
_COMMAND = (sys.executable, "-m", "bench.claims.queue")


@dataclass(frozen=True)
class Timed:
    """What one process got, and how long it took.

    Parameters
    ----------
    keys : list of int
        What was claimed, in order.
    claims, commits : list of float
        Seconds of each claim, and of the bare change of a row after it.
    started, ended : float
        Moments of the system's clock.
    """

    keys: list[int]
    claims: list[float]
    commits: list[float]
    started: float
    ended: float


def fill_queue(*, n_folds: int, environment: Mapping[str, str]) -> None:
    """Make the tables of an empty database and let so many folds wait in it."""
    _run("fill", "--folds", str(n_folds), environment=environment)


def explain_claim(*, environment: Mapping[str, str]) -> str:
    """Return the database's plan of finding the next fold."""
    return _run("plan", environment=environment)


def claim_at_once(
    *, n_processes: int, environment: Mapping[str, str], most: int = 10**9
) -> list[Timed]:
    """Let processes claim, all at once; what each of them got.

    Parameters
    ----------
    most : int, optional
        How many folds each of them claims at most.
    """
    processes = [
        subprocess.Popen(
            [*_COMMAND, "claim", "--most", str(most)],
            cwd=PROJECT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(n_processes)
    ]
    for process in processes:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("a claimer did not begin")
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [Timed(**json.loads(process.communicate()[0])) for process in processes]


def _run(*words: str, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        [*_COMMAND, *words],
        cwd=PROJECT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout
