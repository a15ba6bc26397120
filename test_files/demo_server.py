"""A datarun of the demo's own: started in a temporary home, stopped and removed at the end."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import requests

PROJECT = Path(__file__).resolve().parents[1]
HOST = "127.0.0.1"
START_SECONDS = 60.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.2
TAIL_LINES = 40
# A host that can keep less says so for the demo as well.
PROMISES = "DATARUN_REQUIRED_PROMISES"
FOREIGN_VARIABLES = {"DATABASE_URL", "CELERY_BROKER_URL", "DJANGO_SETTINGS_MODULE"}


class DemoError(Exception):
    """The demo cannot go on; the text says why."""


class Deadline:
    """A moment of the monotonic clock, some seconds from now."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def remaining_seconds(self) -> float:
        """Seconds left, 0 when it has passed."""
        return max(0.0, self._end - time.monotonic())

    @property
    def has_passed(self) -> bool:
        """Whether no time is left."""
        return self.remaining_seconds == 0.0


@dataclass(frozen=True)
class Server:
    """A running server and the account made on it."""

    process: "subprocess.Popen[bytes]"
    log_path: Path
    host_url: str
    username: str
    password: str

    @property
    def credentials(self) -> tuple[str, str, str]:
        """The first three arguments of every function of the client module."""
        return self.host_url, self.username, self.password

    def check_alive(self) -> None:
        """Raise DemoError when the server has died."""
        if self.process.poll() is not None:
            raise DemoError(f"The server died with exit status {self.process.returncode}.")

    def read_log_tail(self) -> str:
        """Return the last lines of the server's log, which goes with its home."""
        lines = self.log_path.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join(["The end of the server's log:", *lines])


@contextmanager
def serving() -> Iterator[Server]:
    """Start a server with an account; stop it and remove its home whatever happens.

    A failure inside is raised again as DemoError with the end of the server's log.
    """
    home = Path(tempfile.mkdtemp(prefix="datarun-demo-"))
    try:
        port = _find_free_port()
        environment = _make_environment(home, port)
        with _serve_process(home / "serve.log", environment) as process:
            server = Server(
                process=process,
                log_path=home / "serve.log",
                host_url=f"http://{HOST}:{port}/",
                username="demo",
                password=secrets.token_hex(16),
            )
            try:
                _wait_until_it_answers(server, Deadline(START_SECONDS))
                _create_user(server, environment)
                yield server
            except (DemoError, requests.RequestException) as error:
                raise DemoError(f"{error}\n{server.read_log_tail()}") from error
    finally:
        _remove(home)


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _make_environment(home: Path, port: int) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name == PROMISES or (name not in FOREIGN_VARIABLES and not name.startswith("DATARUN_"))
    }
    return kept | {"DATARUN_HOME": str(home), "DATARUN_PORT": str(port)}


@contextmanager
def _serve_process(
    log_path: Path, environment: dict[str, str]
) -> Iterator["subprocess.Popen[bytes]"]:
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "serve"],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # A Ctrl-C in the terminal is ours to pass on, and its group is ours to kill.
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _ignore_signals()
        _stop(process)


def _ignore_signals() -> None:
    # An impatient second Ctrl-C must not leave a server or a home behind.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    # Also when it has ended: it may have crashed and left others of its group.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _wait_until_it_answers(server: Server, deadline: Deadline) -> None:
    while not _answers(server.host_url):
        server.check_alive()
        if deadline.has_passed:
            raise DemoError(f"The server did not answer within {START_SECONDS:.0f} s.")
        time.sleep(POLL_SECONDS)


def _answers(host_url: str) -> bool:
    try:
        response = requests.get(f"{host_url}runapp/rawdata/", timeout=5)
    except requests.RequestException:
        return False
    # 401 it is, without an account; 5xx is a server that is not ready.
    return response.status_code < 500


def _create_user(server: Server, environment: dict[str, str]) -> None:
    command = [sys.executable, "manage.py", "createuser"]
    arguments = [server.username, "demo@example.org", server.password]
    try:
        made = subprocess.run(
            command + arguments,
            cwd=PROJECT,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise DemoError(f"createuser took more than {START_SECONDS:.0f} s.") from None
    if made.returncode != 0:
        raise DemoError(f"createuser failed:\n{made.stdout}{made.stderr}")


def _remove(home: Path) -> None:
    # A process that was killed a moment ago may still be writing its last file.
    for _ in range(10):
        shutil.rmtree(home, ignore_errors=True)
        if not home.exists():
            return
        time.sleep(POLL_SECONDS)
    print(f"{home} could not be removed.", file=sys.stderr)
