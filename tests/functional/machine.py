"""One part of an installation, kept running as a process manager does; and several of them.

Run as a module it keeps the command after `--` running until SIGTERM: what dies is started again.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests

from datarun.processes import Part, supervise
from tests.functional.account import Account
from tests.functional.service import (
    DEADLINE_SECONDS,
    HOST,
    PROJECT,
    list_owned,
    make_account,
    manage,
    strip_environment,
    wait_until,
)
from tests.ports import find_free_port

GRACE_SECONDS = 2
# Beyond the grace, from SIGTERM to SIGKILL.
PATIENCE_SECONDS = 18.0


@dataclass
class Machine:
    """A process manager with one part, a web server or a worker, and a home of its own."""

    name: str
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        return (self.folder / f"{self.name}.log").read_text(errors="replace")

    def find_part(self) -> psutil.Process | None:
        """Return the main process of the part, while it has one."""
        with suppress(psutil.NoSuchProcess):
            return next(iter(psutil.Process(self.process.pid).children()), None)
        return None

    def stop(self) -> None:
        """End the part as the process manager's stop does."""
        self.process.terminate()
        self.process.wait(DEADLINE_SECONDS)


@dataclass
class Installation:
    """A web server and workers that share a database, a broker and a storage folder."""

    folder: Path
    port: int
    environment: Mapping[str, str]
    machines: dict[str, Machine]
    host: str = HOST

    @property
    def host_url(self) -> str:
        return f"http://{self.host}:{self.port}/"

    @property
    def log(self) -> str:
        return "\n".join(f"--- {m.name}\n{m.log}" for m in self.machines.values())

    def make_account(self, name: str) -> Account:
        """Make an account as an operator does."""
        return make_account(name, self.host_url, self.environment, self.folder)

    def start_web(self) -> None:
        """Start the web server, and wait until it answers."""
        web = [sys.executable, "-m", "gunicorn", "datarun.wsgi", "--config", "python:datarun.web"]
        options = ["--bind", f"{self.host}:{self.port}", "--workers", "2"]
        self._start("web", [*web, *options])
        wait_until(self._answers, what="the web server answers")

    def start_worker(self, name: str, *, prefix: Sequence[str] = ()) -> None:
        """Start a worker, with words before the command if it is to run elsewhere."""
        worker = [sys.executable, str(PROJECT / "manage.py"), "worker", "--name", name]
        self._start(name, worker, prefix)

    def _start(self, name: str, command: Sequence[str], prefix: Sequence[str] = ()) -> None:
        environment = {
            **self.environment,
            "DATARUN_HOME": str(self.folder / name),
            "TMPDIR": str(self.folder / "tmp"),
        }
        keeper = [sys.executable, "-m", "tests.functional.machine", name]
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*prefix, *keeper, *command],
                cwd=PROJECT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.machines[name] = Machine(name=name, folder=self.folder, process=process)

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.host_url}runapp/rawdata/", timeout=10).status_code == 401
        except requests.RequestException:
            return False


@contextmanager
def installed(
    folder: Path, environment: Mapping[str, str], *, host: str = HOST
) -> Iterator[Installation]:
    """Make an installation without a running part; at the end nothing of it may be left.

    Parameters
    ----------
    folder : Path
        An empty folder for homes, storage and logs.
    environment : mapping of str to str
        Database, broker and further settings, the same for every part.
    host : str
        The address on which its web server listens.
    """
    (folder / "tmp").mkdir(exist_ok=True)
    full = {
        **strip_environment(),
        "DATARUN_SLOTS": "2",
        "DATARUN_SHUTDOWN_GRACE_SECONDS": str(GRACE_SECONDS),
        "DATARUN_SECRET_KEY": "the-same-for-all-parts-of-this-installation",
        "DATARUN_STORAGE_URL": f"file://{folder / 'storage'}",
        "DATARUN_HOME": str(folder / "operator"),
        "DATARUN_ALLOWED_HOSTS": host,
        **environment,
    }
    manage("migrate", "--verbosity", "0", environment=full, folder=folder)
    site = Installation(folder, find_free_port(host), full, {}, host)
    try:
        yield site
    finally:
        for machine in site.machines.values():
            machine.process.terminate()
        for machine in site.machines.values():
            machine.process.wait(DEADLINE_SECONDS)
        left = list_owned(site.folder)
        names = [" ".join(process.cmdline()) for process in left]
        for process in left:
            process.kill()
    assert names == [], "processes were left behind"


def main(arguments: Sequence[str]) -> None:
    """Keep a command running; its name comes first."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    name, *command = arguments
    part = Part(name, tuple(command), dict(os.environ))
    supervise(
        parts=[part],
        folder=PROJECT,
        grace_seconds=GRACE_SECONDS,
        margin_seconds=PATIENCE_SECONDS,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
