"""Run the web server and a worker on this machine, in the foreground, until Ctrl-C."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from datarun.processes import Part, supervise
from runapp.checks import is_database_local
from runapp.management.commands.worker import check_hosts, make_name, make_worker_command

HOST = "127.0.0.1"
# A service that was killed a moment ago may still be letting go of its port.
PORT_WAIT_SECONDS = 3.0
# Beyond the grace that both parts keep to themselves, or after a second signal, before they are
# killed: a worker needs some seconds to give its folds back.
KILL_MARGIN_SECONDS = 5.0


class Command(BaseCommand):
    """Run the web server and the worker of the embedded profile."""

    help = __doc__ or ""

    def handle(self, *args: Any, **options: Any) -> None:
        home: Path = settings.DATARUN_HOME
        with hold_lock(path=home / "serve.lock"):
            port = find_port(host=HOST, port=settings.PORT, wait_seconds=PORT_WAIT_SECONDS)
            # Under the lock: what lies there is left of processes that were killed.
            shutil.rmtree(home / "tmp", ignore_errors=True)
            (home / "tmp").mkdir(mode=0o700, exist_ok=True)
            # The lock of a home whose database is a file tells more: a worker of another host was
            # this one's, killed a moment ago when the host had another name.
            if not is_database_local():
                check_hosts()
            call_command("migrate", interactive=False, verbosity=0)
            # The supervisor needs no database, and its children must not share a connection.
            connections.close_all()
            probe = HttpProbe(host=HOST, port=port)
            supervise(
                parts=list_parts(home=home, port=port, slots=settings.SLOTS),
                folder=settings.BASE_DIR,
                grace_seconds=settings.SHUTDOWN_GRACE_SECONDS,
                margin_seconds=KILL_MARGIN_SECONDS,
                watch=lambda: probe.is_answered() and self._announce(home, port),
            )

    def _announce(self, home: Path, port: int) -> bool:
        slots = "1 slot" if settings.SLOTS == 1 else f"{settings.SLOTS} slots"
        self.stdout.write(
            f"datarun answers at http://{HOST}:{port}/ (home {home}, {slots}); Ctrl-C stops it."
        )
        self.stdout.flush()
        return True


@contextmanager
def hold_lock(*, path: Path) -> Iterator[None]:
    """Hold the lock of a home; the kernel gives it back however this process ends.

    Raises
    ------
    CommandError
        When another process holds it.
    """
    with path.open("a+") as file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise CommandError(
                f"Another datarun is already serving from {path.parent} (process {holder}). "
                "Stop it first, or set DATARUN_HOME to another folder."
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def find_port(*, host: str, port: int, wait_seconds: float) -> int:
    """Return the port once it can be bound; for 0, one that is free.

    Raises
    ------
    CommandError
        When the port stays taken, or may not be bound at all.
    """
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            with socket.socket() as probe:
                # As gunicorn does: connections of an earlier run that wait to expire do not count.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
                # Two sockets may be bound with SO_REUSEADDR; only one may listen.
                probe.listen()
                free: int = probe.getsockname()[1]
                return free
        except (OSError, OverflowError) as error:
            if isinstance(error, (PermissionError, OverflowError)) or time.monotonic() > deadline:
                raise CommandError(
                    f"Port {port} of {host} cannot be used ({error}). "
                    "Free it, or set DATARUN_PORT to another port."
                ) from error
        time.sleep(0.1)


def list_parts(*, home: Path, port: int, slots: int) -> list[Part]:
    """Return the web server, and the worker when there are slots for it."""
    environment = make_environment(home=home)
    parts = [Part("web", make_web_command(port=port, folder=home / "tmp"), environment)]
    if slots > 0:
        command = make_worker_command(slots=slots, name=make_name(home=home, kind="serve"))
        parts.append(Part("worker", command, environment))
    return parts


def make_environment(*, home: Path) -> Mapping[str, str]:
    """Return the parts' environment: what they write goes below the home."""
    return {**os.environ, "DATARUN_HOME": str(home), "TMPDIR": str(home / "tmp")}


def make_web_command(*, port: int, folder: Path) -> tuple[str, ...]:
    """Return the web server's command; gunicorn keeps its heartbeat file in `folder`."""
    options = {
        "--bind": f"{HOST}:{port}",
        "--workers": 1,  # threads share what they remember: credentials, the clock of waiters
        "--graceful-timeout": max(settings.SHUTDOWN_GRACE_SECONDS, 1),
        "--worker-tmp-dir": folder,
        "--log-level": "warning",
    }
    words = (str(word) for option in options.items() for word in option)
    config = ("--config", "python:datarun.web")
    return (sys.executable, "-m", "gunicorn", "datarun.wsgi", *config, *words)


class HttpProbe:
    """Asks a web server one question, without ever waiting for it."""

    def __init__(self, *, host: str, port: int) -> None:
        self._address = (host, port)
        self._socket: socket.socket | None = None

    def is_answered(self) -> bool:
        """Tell whether the server has sent anything; ask, or ask again, when that is needed."""
        try:
            if self._socket is None:
                self._socket = self._ask()
            answered = bool(self._socket.recv(1, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return False  # the question was accepted, the application is still being imported
        except OSError:
            answered = False
        self._forget()  # answered, refused or hung up
        return answered

    def _ask(self) -> socket.socket:
        # On the loopback a connection is made or refused at once.
        connection = socket.create_connection(self._address, timeout=0.05)
        # Answered whatever the settings say of hosts, and not logged.
        connection.sendall(f"GET /health/live HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
        return connection

    def _forget(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()
        self._socket = None
