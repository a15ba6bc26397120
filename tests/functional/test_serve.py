"""`manage.py serve` for real: its own home, a free port, gunicorn and a Celery worker."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.ports import find_free_port

DEADLINE_SECONDS = 60
MANAGE = Path(__file__).resolve().parents[2] / "manage.py"


class Service:
    """A running `manage.py serve`, its home and what it wrote."""

    def __init__(self, *, home: Path, port: int, process: subprocess.Popen[bytes]) -> None:
        self.home = home
        self.port = port
        self.process = process

    @property
    def output(self) -> str:
        return self.home.with_suffix(".out").read_text()

    @property
    def log(self) -> str:
        return self.home.with_suffix(".log").read_text()

    def wait_until_it_answers(self) -> None:
        wait_until(lambda: "answers at" in self.output or self.process.poll() is not None)
        assert self.process.poll() is None, self.log

    def find_part(self, module: str) -> int | None:
        """Return the process that runs a module for the supervisor, once it has children."""
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.NoSuchProcess):
                if module in child.cmdline() and child.children():
                    return child.pid
        return None

    def list_processes(self) -> list[int]:
        """Return what lives of this service, whoever adopted it: the environment tells."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                if process.environ().get("DATARUN_HOME") == str(self.home):
                    found.append(process.pid)
        return found

    def is_answering(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=10):
                return True
        except urllib.error.HTTPError:
            return True  # the application's own refusal
        except OSError:
            return False


def wait_until(condition: Callable[[], object], tell: Callable[[], object] = str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited too long: {tell()}"
        time.sleep(0.02)


def make_environment(*, home: Path, port: int, slots: int) -> dict[str, str]:
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "datarun.settings",  # the test run's own make their own home
        "DATARUN_HOME": str(home),
        "DATARUN_PORT": str(port),
        "DATARUN_SLOTS": str(slots),
        "DATARUN_SHUTDOWN_GRACE_SECONDS": "30",
    }


def run_to_its_end(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(MANAGE), "serve"]
    return subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


@contextmanager
def serving(folder: Path, *, slots: int) -> Iterator[Service]:
    home, port = folder / "home", find_free_port()
    with home.with_suffix(".out").open("wb") as out, home.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(MANAGE), "serve"],
            cwd=folder,  # the parts must not depend on the caller's
            env=make_environment(home=home, port=port, slots=slots),
            stdout=out,
            stderr=log,
        )
    service = Service(home=home, port=port, process=process)
    try:
        yield service
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(DEADLINE_SECONDS)
        for pid in service.list_processes():
            os.kill(pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("serve"), slots=2) as service:
        service.wait_until_it_answers()
        yield service


def test_serve_announces_itself_in_one_line_and_answers(service: Service) -> None:
    assert service.output == (
        f"datarun answers at http://127.0.0.1:{service.port}/ (home {service.home}, 2 slots); "
        "Ctrl-C stops it.\n"
    )
    assert service.is_answering()


def test_serve_runs_as_many_pool_processes_as_slots(service: Service) -> None:
    wait_until(lambda: service.find_part("celery"))
    worker = service.find_part("celery")

    assert worker is not None
    wait_until(
        lambda: len(psutil.Process(worker).children()) == 2,
        tell=lambda: (
            [(child, child.cmdline()) for child in psutil.Process(worker).children()],
            service.log,
        ),
    )


def test_second_instance_of_the_same_home_is_refused(service: Service) -> None:
    environment = make_environment(home=service.home, port=find_free_port(), slots=0)

    second = run_to_its_end(environment)

    assert second.returncode == 1
    assert f"(process {service.process.pid})" in second.stderr
    assert len(second.stderr.splitlines()) == 1
    assert service.is_answering()


def test_port_in_use_is_told_in_one_sentence(service: Service, tmp_path: Path) -> None:
    environment = make_environment(home=tmp_path / "other", port=service.port, slots=0)

    second = run_to_its_end(environment)

    assert second.returncode == 1
    assert f"Port {service.port} of 127.0.0.1 cannot be used" in second.stderr
    assert len(second.stderr.splitlines()) == 1


def test_folder_of_temporary_files_is_private_and_used_by_the_parts(service: Service) -> None:
    wait_until(lambda: service.find_part("celery"))
    folder = service.home / "tmp"

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for module in ("gunicorn", "celery"):
        part = psutil.Process(service.find_part(module))
        assert part.environ()["TMPDIR"] == str(folder)
        assert part.cwd() == str(MANAGE.parent)


@pytest.mark.parametrize("module", ["gunicorn", "celery"])
def test_killed_part_comes_back_without_leftovers(service: Service, module: str) -> None:
    wait_until(lambda: service.find_part(module))
    before = service.find_part(module)
    assert before is not None
    children = [child.pid for child in psutil.Process(before).children(recursive=True)]

    os.kill(before, signal.SIGKILL)

    wait_until(lambda: service.find_part(module) not in (None, before))
    wait_until(service.is_answering)
    assert not set(children) & set(service.list_processes())
    assert re.search(r"(web|worker) was killed by SIGKILL; next try in 0\.2 s", service.log)
    assert service.output.count("answers at") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_everything_with_status_0(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path, slots=1) as service:
        service.wait_until_it_answers()
        wait_until(lambda: service.find_part("celery"))

        service.process.send_signal(number)

        assert service.process.wait(DEADLINE_SECONDS) == 0
        assert service.list_processes() == []
        assert "is killed" not in service.log
        assert not service.is_answering()


def test_everything_ends_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    with serving(tmp_path, slots=1) as service:
        service.wait_until_it_answers()
        wait_until(lambda: service.find_part("celery"))

        service.process.kill()

        wait_until(lambda: service.list_processes() == [])


def test_no_slots_start_no_worker(tmp_path: Path) -> None:
    with serving(tmp_path, slots=0) as service:
        service.wait_until_it_answers()

        children = psutil.Process(service.process.pid).children()

        assert len(children) == 1
        assert "gunicorn" in children[0].cmdline()
        assert "0 slots" in service.output
