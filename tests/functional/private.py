"""A PostgreSQL of a test's own, which it may stop, start again and change as it likes."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.functional.service import wait_until

HOST = "127.0.0.1"
# The server refuses to run as root.
SERVER_ACCOUNT = "postgres"


@dataclass
class PrivatePostgres:
    """A cluster in a folder, on a port of its own."""

    programs: Path
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgres://{SERVER_ACCOUNT}@{HOST}:{self.port}/datarun"

    def make(self) -> None:
        words = ("--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
        subprocess.run(
            [*self._become(), self.programs / "initdb", "-U", SERVER_ACCOUNT, *words, self._data],
            check=True,
            capture_output=True,
        )

    def start(self) -> None:
        settings = ("fsync=off", f"unix_socket_directories={self.folder}", "max_connections=50")
        options = [word for setting in settings for word in ("-c", setting)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(*self._become(), self.programs / "postgres", "-D", self._data),
                    *("-h", HOST, "-p", str(self.port), *options),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_until(self._answers, what="PostgreSQL answers", seconds=30)

    def stop(self) -> None:
        """End it at once, as a machine does that is switched off in order."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(timeout=30)
            self.process = None

    def execute(self, statement: str, *, database: str = "datarun") -> list[tuple[Any, ...]]:
        with self.connect(database=database) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def connect(self, *, database: str = "datarun") -> psycopg.Connection[tuple[Any, ...]]:
        url = self.url.rpartition("/")[0]
        return psycopg.connect(f"{url}/{database}", autocommit=True, connect_timeout=3)

    def end_sessions(self) -> int:
        """End all sessions but ours; return how many there were."""
        ended = self.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = 'datarun' and pid <> pg_backend_pid()"
        )
        return len(ended)

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _become(self) -> list[str]:
        return [] if os.geteuid() else ["setpriv", "--reuid", SERVER_ACCOUNT, "--clear-groups"]

    def _answers(self) -> bool:
        with suppress(psycopg.OperationalError):
            self.connect(database="postgres").close()
            return True
        return False


@contextmanager
def private_postgres() -> Iterator[PrivatePostgres]:
    """Yield a running PostgreSQL with an empty database; nothing of it is left."""
    programs = _find_programs()
    folder = Path(tempfile.mkdtemp(prefix="datarun-postgres-"))
    if not os.geteuid():
        account = pwd.getpwnam(SERVER_ACCOUNT)
        os.chown(folder, account.pw_uid, account.pw_gid)
    server = PrivatePostgres(programs=programs, folder=folder, port=_find_free_port())
    try:
        server.make()
        server.start()
        server.execute("create database datarun", database="postgres")
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


def _find_programs() -> Path:
    """Return the folder of PostgreSQL's programs; skip or fail where it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    if found or on_path:
        return (found[-1] if found else Path(str(on_path))).parent
    if os.environ.get("DATARUN_INSIST_ON_SERVICES") == "1":
        pytest.fail("PostgreSQL is not installed", pytrace=False)
    pytest.skip("PostgreSQL is not installed")


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
