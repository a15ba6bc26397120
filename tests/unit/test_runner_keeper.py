"""Keepers that die, hang, cannot fork or talk nonsense: no fault of the submission's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from runapp.runner import keepers, run, supervisor
from runapp.runner.contract import StageReport
from tests.unit.runner_folds import (
    LIGHT_BOOTSTRAP,
    Iris,
    is_alive,
    serving,
    wait_until,
    write_classifier,
)

ROOT = Path(__file__).resolve().parents[2]

# Leaves a process behind that nobody but the keeper could find, then waits to be ended.
DAEMON = """
    ready, done = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.write(1, f"{os.getpid()} ".encode())
            os.write(done, b".")
            signal.pause()
        os._exit(0)
    os.wait()
    os.read(ready, 1)
    os.write(1, f"{os.getpid()} ".encode())
"""
HANG = write_classifier(fit=DAEMON, predict="signal.pause()")
GOOD = write_classifier()


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iris]:
    with serving(tmp_path_factory.mktemp("iris"), bootstrap=LIGHT_BOOTSTRAP % "") as iris:
        iris.run(GOOD)
        yield iris


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the patience with a keeper that hangs."""
    for name in ("START_SECONDS", "FORK_SECONDS", "STOP_SECONDS"):
        monkeypatch.setattr(keepers, name, 0.3)
    for name in ("EXIT_SECONDS", "LEAVE_SECONDS", "SETUP_SECONDS"):
        monkeypatch.setattr(run, name, 0.3)
    monkeypatch.setattr(supervisor, "STOP_CHECK_SECONDS", 0.1)


def list_descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


def find_spare(iris: Iris) -> psutil.Process:
    wait_until(lambda: len(iris.keeper.children()) == 1, what="a spare child")
    return iris.keeper.children()[0]


def test_keeper_killed_while_idle_is_replaced(iris: Iris) -> None:
    keeper = iris.keeper
    keeper.kill()
    wait_until(lambda: not is_alive(keeper.pid), what="the keeper's death")

    ran = iris.run(GOOD)

    assert ran.outcome == "tested"
    assert iris.keeper.pid != keeper.pid


def test_environment_holds_nothing_of_the_workers(
    iris: Iris, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATARUN_SECRET_KEY", "hush")
    iris.keeper.kill()

    ran = iris.run(write_classifier(fit="print(*sorted(os.environ))"))

    assert set(ran.printed) == {
        "BLIS_NUM_THREADS",
        "HOME",
        "JOBLIB_TEMP_FOLDER",
        "LANG",
        "MKL_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "OMP_NUM_THREADS",
        "OMP_WAIT_POLICY",
        "OPENBLAS_NUM_THREADS",
        "PATH",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONHASHSEED",
        "TMPDIR",
        "VECLIB_MAXIMUM_NUM_THREADS",
    }


def test_error_of_the_caller_is_raised_and_nothing_is_left(iris: Iris) -> None:
    pids: list[int] = []

    def fail(report: StageReport) -> None:
        pids.extend(child.pid for child in iris.keeper.children(recursive=True))
        raise LookupError("the database is away")

    with pytest.raises(LookupError, match="away"):
        iris.run(write_classifier(fit="if os.fork() == 0: signal.pause()"), on_stage=fail)

    assert len(pids) == 2
    assert not any(map(is_alive, pids))
    assert list(iris.scratch_root.iterdir()) == []
    assert iris.run(GOOD).outcome == "tested"


def test_spare_child_killed_while_idle_is_replaced(iris: Iris) -> None:
    keeper = iris.keeper
    spare = find_spare(iris)
    spare.kill()
    wait_until(lambda: not is_alive(spare.pid), what="the spare's death")

    ran = iris.run(GOOD)

    assert ran.outcome == "tested"
    assert iris.keeper == keeper


def test_spare_child_that_hangs_is_ours(iris: Iris, hasty: None) -> None:
    spare = find_spare(iris)
    spare.suspend()

    ran = iris.run(GOOD)

    assert (ran.outcome, ran.result.sentence) == (
        "not_started",
        "the child did not begin in time",
    )
    assert not is_alive(spare.pid)
    assert iris.run(GOOD).outcome == "tested"


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGSTOP])
def test_keeper_lost_while_a_fold_runs_loses_the_fold(
    signal_number: signal.Signals, iris: Iris, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "EXIT_SECONDS", 0.3)
    monkeypatch.setattr(keepers, "STOP_SECONDS", 0.3)
    keeper = iris.keeper

    def strike(report: StageReport) -> None:
        keeper.send_signal(signal_number)
        if signal_number == signal.SIGSTOP:
            iris.keeper.children()[0].kill()

    ran = iris.run(HANG, on_stage=strike)

    assert ran.outcome == "lost"
    assert ran.result.usage.train_seconds is not None
    assert len(ran.printed) == 2
    assert not any(is_alive(int(pid)) for pid in (*ran.printed, keeper.pid))
    assert list(iris.scratch_root.iterdir()) == []
    assert iris.run(GOOD).outcome == "tested"


def test_limit_counts_although_the_keeper_hangs(
    iris: Iris, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "EXIT_SECONDS", 0.3)
    monkeypatch.setattr(keepers, "STOP_SECONDS", 0.3)

    ran = iris.run(HANG, on_stage=lambda report: iris.keeper.suspend(), wall_seconds=0.5)

    assert ran.outcome == "wall_limit"
    assert not any(is_alive(int(pid)) for pid in ran.printed)


def test_complete_report_counts_although_the_keeper_dies(iris: Iris) -> None:
    def strike(report: StageReport) -> None:
        if report.usage.test_seconds is not None:
            iris.keeper.kill()

    ran = iris.run(GOOD, on_stage=strike)

    assert ran.outcome == "tested"
    assert ran.result.usage.test_cpu_seconds is None


def test_keeper_that_hangs_while_idle_is_replaced(
    iris: Iris, monkeypatch: pytest.MonkeyPatch
) -> None:
    iris.run(GOOD)
    monkeypatch.setattr(keepers, "FORK_SECONDS", 0.3)
    monkeypatch.setattr(keepers, "STOP_SECONDS", 0.3)
    keeper, spare = iris.keeper, find_spare(iris)
    keeper.suspend()

    ran = iris.run(GOOD)

    assert ran.outcome == "tested"
    assert not is_alive(keeper.pid)
    assert not is_alive(spare.pid)


TALK = """
import json, os, socket, sys
control = socket.socket(fileno=int(sys.argv[2]))
def tell(text, *fds):
    socket.send_fds(control, [text], fds)
{script}
"""
READY = """tell(b'{"event": "ready"}'); control.recv(65536)\n"""
CHILD = "pid = os.fork()\nif pid == 0: control.close(); os.read(os.pipe()[0], 1)\n"
FORKED = """tell(json.dumps({"event": "forked", "pid": pid}).encode(), os.pidfd_open(pid))\n"""
NONSENSE = {
    "leaves at once": "pass",
    "raises at once": "sys.exit(3)",
    "says nothing": "control.recv(1)",
    "says no JSON": r"tell(b'\xff\x00')",
    "says a list": "tell(b'[]')",
    "says too deep a list": "tell(b'[' * 60000)",
    "says another event": """tell(b'{"event": "exited"}')""",
    "gives a descriptor with it": """tell(b'{"event": "stop"}', 0)""",
    "leaves at a request": READY,
    "answers a request with silence": READY + "control.recv(1)",
    "answers a request with nonsense": READY + "tell(b'null', 0)",
    "answers a request without a descriptor": READY + """tell(b'{"event": "forked", "pid": 1}')""",
    "answers a request without a number": READY + """tell(b'{"event": "forked"}', 0)""",
    "leaves after the fork": READY + CHILD + FORKED,
    "tells no exit": READY + CHILD + FORKED + "tell(b'{}', 0); control.recv(1)",
    "tells half an exit": READY + CHILD + FORKED + """tell(b'{"event": "exited", "status": 0}')""",
}


@pytest.mark.parametrize("name", NONSENSE)
def test_keeper_that_talks_nonsense_is_ours_and_leaks_nothing(
    name: str, tmp_path: Path, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keepers, "START_SECONDS", 20 if "at once" not in name else 0.3)
    if name == "says nothing":
        monkeypatch.setattr(keepers, "START_SECONDS", 0.3)
    monkeypatch.setattr(keepers, "_BOOTSTRAP", TALK.replace("{script}", NONSENSE[name]))
    iris, before = Iris(tmp_path), list_descriptors()

    ran = iris.run(GOOD)

    iris.supervisor.close()
    assert ran.outcome == "not_started"
    assert "keeper" in ran.result.sentence
    assert list_descriptors() == before
    assert list(iris.scratch_root.iterdir()) == []


def test_no_process_for_a_keeper_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **names: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    iris, before = Iris(tmp_path), list_descriptors()
    monkeypatch.setattr(subprocess, "Popen", refuse)

    ran = iris.run(GOOD)

    assert ran.outcome == "not_started"
    assert "Resource temporarily unavailable" in ran.result.sentence
    assert list_descriptors() == before


def test_no_process_for_a_child_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    refuse = "import os\ndef refuse(): raise BlockingIOError(11, 'No room')\nos.fork = refuse"
    monkeypatch.setattr(keepers, "_BOOTSTRAP", LIGHT_BOOTSTRAP % refuse)
    iris, before = Iris(tmp_path), list_descriptors()

    ran = iris.run(GOOD)

    assert ran.outcome == "not_started"
    assert capfd.readouterr().err == "keeper: no child could be forked: No room\n" * 2
    assert list_descriptors() == before


def test_caller_is_asked_while_a_keeper_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keepers, "_BOOTSTRAP", TALK.replace("{script}", "control.recv(1)"))
    monkeypatch.setattr(supervisor, "STOP_CHECK_SECONDS", 0.1)
    iris = Iris(tmp_path)

    ran = iris.run(GOOD, should_stop=lambda: True)

    iris.supervisor.close()
    assert ran.outcome == "stopped"


WORKER = """
import sys
from pathlib import Path
from tests.unit.runner_folds import LIGHT_BOOTSTRAP, serving

folder = Path(sys.argv[1])
with serving(folder, bootstrap=LIGHT_BOOTSTRAP % "") as iris:
    print(iris.keeper.pid, flush=True)
    if sys.argv[2] == "starting":
        sys.stdin.read()
    iris.run((folder / "code.py").read_text(), on_stage=lambda _: print("fitted", flush=True))
"""


@pytest.mark.parametrize("moment", ["starting", "running"])
def test_everything_ends_quietly_with_the_worker(moment: str, tmp_path: Path) -> None:
    pid_file = f"os.open({str(tmp_path / 'pids')!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)"
    (tmp_path / "code.py").write_text(HANG.replace("os.write(1,", f"os.write({pid_file},"))
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(tmp_path), moment],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with worker:
        assert worker.stdout is not None
        pids = [int(worker.stdout.readline())]
        if moment == "running":
            assert worker.stdout.readline() == b"fitted\n"
            pids += map(int, (tmp_path / "pids").read_text().split())

        worker.kill()
        # The end of the pipe: the last one that could have written to it has gone.
        assert worker.stderr is not None
        complaint = worker.stderr.read()

    assert complaint == b""
    assert len(pids) == (3 if moment == "running" else 1)
    wait_until(lambda: not any(map(is_alive, pids)), what="the end of the keeper and its run")
