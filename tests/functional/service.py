"""A datarun for the tests: started in a home of its own and ended without a trace."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import psutil
import requests

from datarun.processes import die_with
from tests.functional.account import Account
from tests.ports import find_free_port

PROJECT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
DEADLINE_SECONDS = 60.0
POLL_SECONDS = 0.05
FOREIGN_VARIABLES = ("DATABASE_URL", "CELERY_BROKER_URL", "DJANGO_SETTINGS_MODULE")
# A host that can keep less says so for its services as well.
PROMISES = "DATARUN_REQUIRED_PROMISES"
KEEPER = "runapp.runner.keeper.process"

Answer = TypeVar("Answer")


def wait_until(
    condition: Callable[[], Answer], *, what: str, seconds: float = DEADLINE_SECONDS
) -> Answer:
    """Return what the condition answers once that is true; fail when it takes too long."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain until {what}"
        time.sleep(POLL_SECONDS)
    return answer


@dataclass
class Service:
    """A running `manage.py serve`."""

    folder: Path
    port: int
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes]
    accounts: list[str] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def scratch(self) -> Path:
        return self.home / "scratch"

    @property
    def host_url(self) -> str:
        return f"http://{HOST}:{self.port}/"

    @property
    def log(self) -> str:
        return (self.folder / "serve.log").read_text(errors="replace")

    def make_account(self, name: str) -> Account:
        """Make an account as an operator does."""
        self.accounts.append(name)
        return make_account(name, self.host_url, self.environment, self.folder)

    def manage(self, *words: str) -> str:
        """Run a management command and return what it prints."""
        return manage(*words, environment=self.environment, folder=self.folder)

    def list_processes(self) -> list[psutil.Process]:
        """Return what lives of this service, whoever its parent is by now."""
        return list_owned(self.folder)

    def list_runs(self) -> list[psutil.Process]:
        """Return the processes of folds and splits: what is below a keeper but its spare."""
        runs = []
        for keeper in self.list_keepers():
            with suppress(psutil.NoSuchProcess):
                below = keeper.children(recursive=True)
                spare = _find_spare(keeper)
                runs += [process for process in below if process != spare]
        return runs

    def list_keepers(self) -> list[psutil.Process]:
        """Return the warm processes, one for each slot that has begun."""
        return [process for process in self._list_descendants() if is_keeper(process)]

    def find_part(self, module: str) -> psutil.Process | None:
        """Return the process that runs a module, `gunicorn` or `celery`, for the supervisor."""
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.NoSuchProcess):
                if module in child.cmdline():
                    return child
        return None

    def wait_until_it_answers(self) -> None:
        wait_until(self._answers, what="the server answers")

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log
        try:
            return requests.get(f"{self.host_url}runapp/rawdata/", timeout=10).status_code == 401
        except requests.RequestException:
            return False

    def _list_descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


def make_account(name: str, host_url: str, environment: Mapping[str, str], folder: Path) -> Account:
    """Make an account by the command, as an operator does."""
    password = secrets.token_hex(16)
    words = ("createuser", name, f"{name}@example.org", password)
    manage(*words, environment=environment, folder=folder)
    return Account(host_url=host_url, username=name, password=password, folder=folder)


def manage(*words: str, environment: Mapping[str, str], folder: Path) -> str:
    """Run a management command and return what it prints."""
    done = subprocess.run(
        [sys.executable, str(PROJECT / "manage.py"), *words],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def list_owned(folder: Path) -> list[psutil.Process]:
    """Return what lives of the services whose homes and logs lie in a folder."""
    return [process for process in psutil.process_iter() if _owns(folder, process)]


def list_below(process: psutil.Process) -> list[psutil.Process]:
    """Return what descends from a process; of one that has ended, nothing."""
    with suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


def list_slots(worker: psutil.Process) -> list[psutil.Process]:
    """Return the pool processes of a worker: its self-test's keeper is none."""
    with suppress(psutil.NoSuchProcess):
        return [child for child in worker.children() if "celery" in _read_command(child)]
    return []


def _read_command(process: psutil.Process) -> list[str]:
    with suppress(psutil.NoSuchProcess):
        return process.cmdline()
    return []


def _owns(folder: Path, process: psutil.Process) -> bool:
    if process.pid == os.getpid():
        return False
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        if process.environ().get("DATARUN_HOME", "").startswith(f"{folder}/"):
            return True
        # A keeper has a clean environment, but the log is its stderr; a run works in the home.
        links = [f"/proc/{process.pid}/cwd", *_list_descriptors(process.pid)]
        return any(_read_link(link).startswith(f"{folder}/") for link in links)
    return False


def _find_spare(keeper: psutil.Process) -> psutil.Process | None:
    """Return the child that a keeper has forked ahead: it has not gone to a scratch folder."""
    idle = [
        child
        for child in keeper.children()
        if _names_keeper(child) and _read_link(f"/proc/{child.pid}/cwd") == "/"
    ]
    return max(idle, key=lambda child: child.pid, default=None)


def assert_shows_no_path(text: str, service: Service) -> None:
    """Check that a client does not learn where on the server anything lies."""
    packages, library = sysconfig.get_path("purelib"), sysconfig.get_path("stdlib")
    for path in (service.folder, PROJECT, packages, library):
        assert str(path) not in text


def is_keeper(process: psutil.Process) -> bool:
    """Tell whether a process is a keeper, and not a child of one."""
    # Its forked children have the same command line; they work in the scratch folder.
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        parent = process.parent()
        return _names_keeper(process) and not (parent is not None and _names_keeper(parent))
    return False


def _names_keeper(process: psutil.Process) -> bool:
    return any(KEEPER in word for word in process.cmdline())


def _list_descriptors(pid: int) -> list[str]:
    with suppress(OSError):
        return [f"/proc/{pid}/fd/{name}" for name in os.listdir(f"/proc/{pid}/fd")]
    return []


def _read_link(path: str) -> str:
    with suppress(OSError):
        return os.readlink(path)
    return ""


@contextmanager
def serving(
    folder: Path, environment: Mapping[str, str], *, is_calm: bool = True
) -> Iterator[Service]:
    """Serve from `folder`; at the end nothing of the service may be left.

    Parameters
    ----------
    folder : Path
        An empty folder for the home and the log.
    environment : mapping of str to str
        What the service is told beside its home and port.
    is_calm : bool
        Whether nothing of it is killed: then its log holds no stack trace.
    """
    port = find_free_port()
    full = _make_environment(folder, port, environment)
    with (folder / "serve.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, str(PROJECT / "manage.py"), "serve"],
            cwd=folder,
            env=full,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # Tests that are killed leave no server behind.
            preexec_fn=partial(die_with, os.getpid()),
        )
    service = Service(folder=folder, port=port, environment=full, process=process)
    try:
        service.wait_until_it_answers()
        yield service
    finally:
        leftovers = _stop(service)
    assert process.returncode == 0, service.log
    assert leftovers == [], "processes were left behind"
    assert not (is_calm and "Traceback" in service.log), service.log


def _stop(service: Service) -> list[str]:
    """End the service; return the command lines of what it left, which is killed."""
    service.process.terminate()
    with suppress(subprocess.TimeoutExpired):
        service.process.wait(DEADLINE_SECONDS)
    leftovers = []
    for process in service.list_processes():
        with suppress(psutil.NoSuchProcess):
            leftovers.append(" ".join(process.cmdline()))
            process.send_signal(signal.SIGKILL)
    service.process.wait()
    return leftovers


def _make_environment(folder: Path, port: int, environment: Mapping[str, str]) -> dict[str, str]:
    return {
        **strip_environment(),
        "DATARUN_SLOTS": "2",
        "DATARUN_SHUTDOWN_GRACE_SECONDS": "2",
        **environment,
        "DATARUN_HOME": str(folder / "home"),
        "DATARUN_PORT": str(port),
    }


def strip_environment() -> dict[str, str]:
    """Return this process's environment less what would set up a datarun."""
    return {
        name: value
        for name, value in os.environ.items()
        if name == PROMISES or (name not in FOREIGN_VARIABLES and not name.startswith("DATARUN_"))
    }
