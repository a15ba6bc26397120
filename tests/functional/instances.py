"""Servers of a test's own, which it may stop, kill and start again: PostgreSQL, RabbitMQ, Redis.

Each listens on a free port and keeps everything in a folder of its own. Nothing of the machine's
own servers is touched.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import redis
from kombu import Connection

from tests.effort import miss
from tests.functional.service import HOST, wait_until
from tests.ports import find_free_port

CONNECT_SECONDS = 2
# An Erlang machine takes its time where all processors are busy.
START_SECONDS = 90.0
STOP_SECONDS = 60.0
POSTGRES_PROGRAMS = "/usr/lib/postgresql/*/bin"
RABBITMQ_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
PASSWORD = "private"


@dataclass
class Instance:
    """One server: the same command starts it again on what it had stored."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    url: str
    ask: Callable[[str], None]
    # What ends it in good order, with everything stored.
    stop_signal: signal.Signals = signal.SIGTERM
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start it, without waiting until it answers."""
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env={**os.environ, **self.environment},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self, number: signal.Signals | None = None) -> None:
        """Send it a signal, the one of a good end unless named, and wait for its end."""
        if self.process is None:
            return
        self.process.send_signal(number or self.stop_signal)
        self.process.wait(STOP_SECONDS)
        # What it had started lives a moment longer, and may hold the port or the files.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process = None

    def wait_until_it_answers(self) -> None:
        wait_until(self._answers, what=f"{self.name} answers", seconds=START_SECONDS)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / f"{self.name}.log").read_text()
        try:
            self.ask(self.url)
        except Exception:  # what a server that starts answers is many things
            return False
        return True


@dataclass
class Postgres(Instance):
    """A PostgreSQL server, which its superuser may also talk to."""

    port: int = 0
    programs: Path = Path()

    def execute(self, statement: str, *, database: str = "datarun") -> list[tuple[Any, ...]]:
        with self.connect(database=database) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def connect(self, *, database: str = "datarun") -> psycopg.Connection[tuple[Any, ...]]:
        url = f"{self.url.rpartition('/')[0]}/{database}"
        return psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_SECONDS)

    def end_sessions(self) -> int:
        """End all sessions but ours; return how many there were."""
        ended = self.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = 'datarun' and pid <> pg_backend_pid()"
        )
        return len(ended)


@contextmanager
def private_postgres(*, host: str = HOST) -> Iterator[Postgres]:
    """Run a PostgreSQL with one empty database `datarun`."""
    programs = _find_folder(POSTGRES_PROGRAMS, "initdb", "PostgreSQL")
    # It refuses to run as root.
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    as_user = user if os.geteuid() == 0 else []
    port = find_free_port(host)
    with _folder("postgres", owner="postgres" if as_user else None) as folder:
        data = folder / "data"
        options = ["--auth=trust", "--username=postgres", "--no-sync", "--encoding=UTF8"]
        _run([*as_user, str(programs / "initdb"), *options, f"--pgdata={data}"], folder)
        with (data / "pg_hba.conf").open("a") as file:
            file.write("host all all samenet trust\n")
        # The machine stays up: what a killed server has handed to the kernel is not lost.
        settings = {
            "port": port,
            "listen_addresses": host,
            "unix_socket_directories": folder,
            "fsync": "off",
            "max_connections": 60,
        }
        flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        instance = Postgres(
            name="postgres",
            port=port,
            programs=programs,
            command=[*as_user, str(programs / "postgres"), "-D", str(data), *flags],
            environment={},
            folder=folder,
            url=f"postgres://postgres@{host}:{port}/postgres",
            ask=_ask_postgres,
            stop_signal=signal.SIGINT,  # SIGTERM would wait for the clients to leave
        )
        with _running(instance):
            instance.execute("create database datarun", database="postgres")
            instance.url = f"postgres://postgres@{host}:{port}/datarun"
            yield instance


@contextmanager
def private_rabbitmq(*, host: str = HOST) -> Iterator[Instance]:
    """Run a RabbitMQ with its own Erlang port mapper."""
    if not RABBITMQ_SERVER.exists():
        miss(f"RabbitMQ is not installed: there is no {RABBITMQ_SERVER}")
    port, mapper_port = find_free_port(host), find_free_port(HOST)
    with _folder("rabbitmq") as folder:
        configuration = folder / "rabbitmq.conf"
        configuration.write_text(
            f"listeners.tcp.1 = {host}:{port}\n"
            "loopback_users = none\n"
            f"default_pass = {PASSWORD}\n"
            "vm_memory_high_watermark.relative = 0.8\n"
        )
        (folder / "plugins").write_text("[].\n")
        (folder / "nothing.conf").touch()
        environment = {
            "HOME": str(folder),  # the cookie lies there
            "ERL_EPMD_PORT": str(mapper_port),
            "ERL_EPMD_ADDRESS": HOST,
            "RABBITMQ_NODENAME": f"datarun{port}@localhost",
            "RABBITMQ_DIST_PORT": str(find_free_port(HOST)),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "nothing.conf"),
            "RABBITMQ_CONFIG_FILE": str(configuration),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2",
            # Its script then becomes the server, which takes signals itself.
            "RUNNING_UNDER_SYSTEMD": "true",
        }
        mapper = ["epmd", "-address", HOST, "-port", str(mapper_port)]
        instance = Instance(
            name="rabbitmq",
            command=[str(RABBITMQ_SERVER)],
            environment=environment,
            folder=folder,
            url=f"amqp://guest:{PASSWORD}@{host}:{port}//",
            ask=_ask_rabbitmq,
        )
        with _beside(mapper, folder), _running(instance):
            yield instance


@contextmanager
def private_redis(*, host: str = HOST) -> Iterator[Instance]:
    """Run a Redis that stores nothing."""
    program = shutil.which("redis-server")
    if program is None:
        miss("Redis is not installed")
    port = find_free_port(host)
    options = {"bind": host, "port": port, "save": "", "appendonly": "no", "protected-mode": "no"}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    with _folder("redis") as folder:
        instance = Instance(
            name="redis",
            command=[str(program), *words],
            environment={},
            folder=folder,
            url=f"redis://{host}:{port}/0",
            ask=_ask_redis,
        )
        with _running(instance):
            yield instance


def _ask_postgres(url: str) -> None:
    psycopg.connect(url, connect_timeout=CONNECT_SECONDS).close()


def _ask_rabbitmq(url: str) -> None:
    with Connection(url, connect_timeout=CONNECT_SECONDS) as connection:
        connection.ensure_connection(max_retries=1, timeout=CONNECT_SECONDS)


def _ask_redis(url: str) -> None:
    with redis.Redis.from_url(url, socket_timeout=CONNECT_SECONDS) as client:
        client.ping()


@contextmanager
def _folder(name: str, *, owner: str | None = None) -> Iterator[Path]:
    # Not pytest's folder, which is closed to other users, and whose name may be too long for a
    # socket in it.
    folder = Path(tempfile.mkdtemp(prefix=f"datarun-{name}-"))
    try:
        if owner is not None:
            shutil.chown(folder, owner, owner)
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def _running(instance: Instance) -> Iterator[None]:
    instance.start()
    try:
        instance.wait_until_it_answers()
        yield
    finally:
        instance.stop(signal.SIGKILL if instance.stop_signal is signal.SIGTERM else None)


@contextmanager
def _beside(command: Sequence[str], folder: Path) -> Iterator[None]:
    process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _run(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _find_folder(pattern: str, program: str, name: str) -> Path:
    found = sorted(Path("/").glob(f"{pattern.lstrip('/')}/{program}"))
    on_path = shutil.which(program)
    if on_path is not None:
        found.append(Path(on_path).resolve())
    if not found:
        miss(f"{name} is not installed: there is no {program}")
    return found[-1].parent
