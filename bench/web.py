"""A real web server on a database of a bench's own, and what asks it."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

PROJECT = Path(__file__).resolve().parents[1]
HOST = "127.0.0.1"
START_SECONDS = 60.0
STOP_SECONDS = 30.0
_REQUEST_SECONDS = 600.0
# The server drops a connection that nobody has used for longer (datarun/web.py).
_KEPT_SECONDS = 30.0


@dataclass(frozen=True)
class Answer:
    """What the server sent, and how long the client waited for the whole of it."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    seconds: float


class Client:
    """Asks over one connection that is kept alive.

    `http.client` and nothing above it: what reads the answer shares the processors with the server,
    so it has to be cheap.
    """

    def __init__(self, port: int, *, token: str) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=_REQUEST_SECONDS)
        self._headers = {
            "Authorization": f"Token {token}",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
        }
        self._used_at = time.perf_counter()

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request and read all of the answer.

        Raises
        ------
        RuntimeError
            When the server refuses it.
        """
        self._refresh()
        started = time.perf_counter()
        self._connection.request(method, path, body, {**self._headers, **(headers or {})})
        response = self._connection.getresponse()
        content = response.read()
        self._used_at = time.perf_counter()
        seconds = self._used_at - started
        if response.status >= 400:
            raise RuntimeError(f"{method} {path}: {response.status} {content[:400]!r}")
        return Answer(response.status, dict(response.getheaders()), content, seconds)

    def _refresh(self) -> None:
        if time.perf_counter() - self._used_at > _KEPT_SECONDS:
            self._connection.close()
            self._connection.connect()


@dataclass(frozen=True)
class Web:
    """A running server: its port, and the processes that answer."""

    port: int
    processes: tuple[int, ...]


@contextmanager
def serve(environment: Mapping[str, str], *, n_processes: int = 1) -> Iterator[Web]:
    """Run gunicorn as `serve` and the deployment do, and wait until all its processes answer."""
    port = _find_free_port()
    command = [sys.executable, "-m", "gunicorn", "datarun.wsgi", "--config", "python:datarun.web"]
    options = ["--bind", f"{HOST}:{port}", "--workers", str(n_processes), "--log-level", "warning"]
    with Path(environment["DATARUN_HOME"], f"web-{port}.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *options],
            cwd=PROJECT,
            # Every contender polls as one account.
            env={**os.environ, "DATARUN_REQUESTS_PER_MINUTE": "0", **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Web(port, _wait_until_ready(process, port, n_processes))
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process in good order, or by force when that takes too long."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(
    process: subprocess.Popen[bytes], port: int, n_processes: int
) -> tuple[int, ...]:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        children = psutil.Process(process.pid).children()
        # Each imports the application by itself, and one may give all the answers.
        if len(children) == n_processes and all(map(_has_settled, children)) and _answers(port):
            return tuple(child.pid for child in children)
        time.sleep(0.2)
    raise RuntimeError("the web server did not start")


def _has_settled(process: psutil.Process) -> bool:
    """Tell whether a process is done with importing: it does nothing any more."""
    return bool(process.cpu_percent(interval=0.3) < 5)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/nothing/")
        return connection.getresponse().status == 404
    except OSError:
        return False
    finally:
        connection.close()
