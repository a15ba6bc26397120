"""The supervisor, run as a process of its own with small scripts as parts."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from datarun.processes import SECOND_WISH_SECONDS, BackOff, describe_status

DEADLINE_SECONDS = 10
ROOT = Path(__file__).resolve().parents[2]

SUPERVISOR = """
import json, logging, os, signal, sys
from pathlib import Path
from datarun.processes import BackOff, Part, supervise

logging.basicConfig(level="INFO", format="%(message)s")
told = json.loads(sys.argv[1])
# The tests' own may be ignored, as under nohup, and would be inherited so.
signal.signal(signal.SIGHUP, signal.SIG_IGN if told["has_nohup"] else signal.SIG_DFL)
answers = iter(told["watch"])

def watch():
    answer = next(answers)
    print("watched", answer, flush=True)
    return answer

supervise(
    parts=[Part(name, tuple(command), dict(os.environ)) for name, command in told["parts"].items()],
    folder=Path(told["folder"]),
    grace_seconds=told["grace_seconds"],
    margin_seconds=told["margin_seconds"],
    watch=watch,
    back_off=BackOff(first_seconds=0.05, most_seconds=0.2),
)
print("supervisor is done", flush=True)
"""

# Appends its number to a file named by the caller, and waits for its end.
WAIT = """
import os, pathlib, signal
with open({path!r}, "a") as file:
    print(os.getpid(), file=file, flush=True)
signal.pause()
"""
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + WAIT

Start = Callable[..., "Service"]


class Service:
    """A running supervisor, its folder and what it wrote."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.process = process

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def wait(self) -> int:
        return self.process.wait(DEADLINE_SECONDS)


def python(script: str, **names: object) -> list[str]:
    return [sys.executable, "-S", "-c", textwrap.dedent(script).format(**names)]


def wait_until(condition: Callable[[], bool], *, what: str = "") -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited too long {what}"
        time.sleep(0.005)


def wait_for_time(seconds: float) -> None:
    moment = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > moment)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def read_pids(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def wait_for_pids(path: Path, count: int = 1) -> list[int]:
    wait_until(lambda: len(read_pids(path)) >= count, what=f"for {path.name}")
    return read_pids(path)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    processes: list[subprocess.Popen[bytes]] = []

    def start_service(
        *,
        grace_seconds: float = DEADLINE_SECONDS,
        margin_seconds: float = 0,
        watch: object = (True,),
        has_nohup: bool = False,
        **parts: list[str],
    ) -> Service:
        told = {
            "parts": parts,
            "folder": str(tmp_path),
            "grace_seconds": grace_seconds,
            "margin_seconds": margin_seconds,
            "watch": watch,
            "has_nohup": has_nohup,
        }
        with (tmp_path / "log").open("wb") as log:
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-c", SUPERVISOR, json.dumps(told)],
                    stdout=log,
                    stderr=log,
                    env={**os.environ, "PYTHONPATH": str(ROOT)},
                )
            )
        return Service(tmp_path, processes[-1])

    yield start_service
    for process in processes:
        process.kill()
        process.wait()


def test_back_off_doubles_up_to_its_most_and_forgives_a_long_life() -> None:
    back_off = BackOff()
    delays = [0.0]

    for _ in range(7):
        delays.append(back_off.next_delay(last_delay=delays[-1], lived_seconds=1))

    assert delays[1:] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert back_off.next_delay(last_delay=5.0, lived_seconds=10) == 0.2


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "ended with exit status 0"),
        (3, "ended with exit status 3"),
        (-9, "was killed by SIGKILL"),
        (-40, "was killed by signal 40"),
    ],
)
def test_status_is_told_in_words(status: int, words: str) -> None:
    assert describe_status(status=status) == words


def test_part_that_ends_is_started_again_ever_later(start: Start, tmp_path: Path) -> None:
    times = tmp_path / "times"
    script = "import time; print(time.monotonic(), file=open({path!r}, 'a')); raise SystemExit(3)"

    service = start(flaky=python(script, path=str(times)))
    wait_until(lambda: times.exists() and len(times.read_text().split()) >= 4)
    moments = [float(line) for line in times.read_text().split()[:4]]
    service.process.terminate()

    assert service.wait() == 0
    gaps = [later - sooner for sooner, later in itertools.pairwise(moments)]
    assert [gap >= least for gap, least in zip(gaps, (0.05, 0.1, 0.2), strict=True)] == [True] * 3
    assert "flaky ended with exit status 3; next try in 0.1 s" in service.log


def test_killed_part_comes_back_and_the_other_is_left_alone(start: Start, tmp_path: Path) -> None:
    web, worker = tmp_path / "web", tmp_path / "worker"
    service = start(web=python(WAIT, path=str(web)), worker=python(WAIT, path=str(worker)))
    [first], [other] = wait_for_pids(web), wait_for_pids(worker)

    os.kill(first, signal.SIGKILL)
    second = wait_for_pids(web, 2)[-1]

    assert is_alive(second)
    assert read_pids(worker) == [other]
    assert is_alive(other)
    assert "web was killed by SIGKILL; next try in" in service.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_ends_every_part_and_the_status_is_0(
    start: Start, tmp_path: Path, number: signal.Signals
) -> None:
    paths = [tmp_path / "web", tmp_path / "worker"]
    service = start(**{path.name: python(WAIT, path=str(path)) for path in paths})
    pids = [wait_for_pids(path)[0] for path in paths]

    service.process.send_signal(number)

    assert service.wait() == 0
    assert not any(is_alive(pid) for pid in pids)
    assert service.log.endswith("supervisor is done\n")
    assert "is killed" not in service.log
    assert "next try" not in service.log


def test_supervisor_under_nohup_outlives_its_terminal(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "web"
    service = start(has_nohup=True, web=python(WAIT, path=str(path)))
    [pid] = wait_for_pids(path)

    service.process.send_signal(signal.SIGHUP)
    os.kill(pid, signal.SIGKILL)
    wait_for_pids(path, 2)
    service.process.terminate()

    assert service.wait() == 0
    assert service.log.count("stopping") == 1


def test_parts_end_when_the_supervisor_is_killed(start: Start, tmp_path: Path) -> None:
    paths = [tmp_path / "web", tmp_path / "worker"]
    service = start(**{path.name: python(WAIT, path=str(path)) for path in paths})
    pids = [wait_for_pids(path)[0] for path in paths]

    service.process.kill()

    wait_until(lambda: not any(is_alive(pid) for pid in pids), what="for orphans to end")


def test_stubborn_part_is_killed_after_the_grace(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "pids"
    service = start(grace_seconds=0.3, stubborn=python(STUBBORN, path=str(path)))
    [pid] = wait_for_pids(path)

    asked_at = time.monotonic()
    service.process.terminate()

    assert service.wait() == 0
    assert time.monotonic() - asked_at >= 0.3
    assert not is_alive(pid)
    assert "stubborn did not end in time and is killed" in service.log


# Ends at the second SIGTERM, and tells of each.
RELUCTANT = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
with open({path!r}, "w") as file:
    for _ in range(2):
        signal.sigwait([signal.SIGTERM])
        print("asked", file=file, flush=True)
"""


def test_second_signal_is_passed_on_and_ends_the_grace(start: Start, tmp_path: Path) -> None:
    reluctant, stubborn = tmp_path / "reluctant", tmp_path / "stubborn"
    service = start(
        grace_seconds=600,
        margin_seconds=0.5,
        reluctant=python(RELUCTANT, path=str(reluctant)),
        stubborn=python(STUBBORN, path=str(stubborn)),
    )
    [pid] = wait_for_pids(stubborn)
    wait_until(reluctant.exists)

    service.process.terminate()
    wait_until(lambda: "stopping" in service.log)
    wait_for_time(SECOND_WISH_SECONDS + 0.1)
    service.process.send_signal(signal.SIGINT)

    assert service.wait() == 0
    assert reluctant.read_text() == "asked\nasked\n"
    assert "reluctant did not end in time" not in service.log
    assert not is_alive(pid)


def test_signal_that_follows_at_once_is_the_same_wish(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "reluctant"
    service = start(grace_seconds=600, reluctant=python(RELUCTANT, path=str(path)))
    wait_until(path.exists)

    service.process.send_signal(signal.SIGINT)
    wait_until(lambda: "asked" in path.read_text())
    service.process.terminate()
    wait_for_time(0.2)

    assert service.process.poll() is None
    assert "stopping at once" not in service.log


# A main process with two children that ignore SIGTERM: one in its group, one in a group of its own.
FAMILY = """
import os, signal, subprocess, sys
for group in (None, 0):
    subprocess.Popen([sys.executable, "-S", "-c", {child!r}], process_group=group)
signal.pause()
"""


def start_family(start: Start, tmp_path: Path) -> tuple[Service, int, list[int]]:
    path = tmp_path / "children"
    child = STUBBORN.format(path=str(path))
    service = start(family=python(FAMILY, child=child))
    children = wait_for_pids(path, 2)
    return service, psutil.Process(children[0]).ppid(), children


def test_leftovers_of_a_killed_part_are_dead_before_it_is_back(
    start: Start, tmp_path: Path
) -> None:
    service, main, children = start_family(start, tmp_path)

    os.kill(main, signal.SIGKILL)
    wait_until(lambda: service.log.count("family runs as process") == 2)

    assert not any(is_alive(pid) for pid in children)


def test_leftovers_of_a_part_that_ended_are_dead_after_the_stop(
    start: Start, tmp_path: Path
) -> None:
    service, main, children = start_family(start, tmp_path)

    service.process.terminate()

    assert service.wait() == 0
    assert not any(is_alive(pid) for pid in [main, *children])
    assert "is killed" not in service.log  # the part itself went in time


def test_command_that_does_not_exist_is_tried_again(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "pids"
    service = start(broken=["/nowhere/at-all"], web=python(WAIT, path=str(path)))

    wait_until(lambda: service.log.count("broken could not start") >= 2)
    wait_for_pids(path)
    service.process.terminate()

    assert service.wait() == 0


def test_watch_is_called_until_it_is_true(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "pids"
    service = start(watch=[False, False, True], web=python(WAIT, path=str(path)))
    wait_until(lambda: "watched True" in service.log)
    [pid] = wait_for_pids(path)

    os.kill(pid, signal.SIGKILL)  # a further round of the loop
    wait_for_pids(path, 2)
    service.process.terminate()

    assert service.wait() == 0
    assert service.log.count("watched False") == 2
    assert service.log.count("watched True") == 1


def test_supervisor_sleeps_while_nothing_happens(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "pids"
    service = start(web=python(WAIT, path=str(path)))
    wait_for_pids(path)
    supervisor = psutil.Process(service.process.pid)
    wait_until(lambda: supervisor.status() == psutil.STATUS_SLEEPING)
    before = supervisor.num_ctx_switches().voluntary

    wait_for_time(0.3)

    assert supervisor.num_ctx_switches().voluntary - before <= 1
