"""Keepers that cannot be started, cannot fork or talk nonsense, whatever they were told."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from runapp.runner import run, supervisor
from runapp.runner.host import Host
from runapp.runner.keeper import handle
from tests.unit.runner_folds import HOSTS, LIGHT_BOOTSTRAP, Iris, write_classifier
from tests.unit.runner_marks import leaving_nothing, make_name, name_process, wait_for_none

GOOD = write_classifier()

# Says what it likes; `ready`, `spare` and `exited` are what a keeper would say.
TALK = """
import json, os, signal, socket, sys, time
control = socket.socket(fileno=int(sys.argv[2]))
views = [int(sys.argv[4])] if int(sys.argv[4]) >= 0 else []

def tell(event, *fds, **fields):
    text = event if isinstance(event, bytes) else json.dumps({"event": event, **fields}).encode()
    socket.send_fds(control, [text], fds) if fds else control.send(text)

def ready():
    global number
    tell("ready", os.pidfd_open(os.getpid()), *views)
    asked = json.loads(control.recv(65536))
    assert asked["event"] == "prepare"
    number = asked["number"]

def fork():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
        control.close()
        ours.close()
        if theirs.recv(65536):
            signal.pause()
        os._exit(0)
    theirs.close()
    return os.pidfd_open(pid), ours.detach()

def take_a_run():
    child = fork()
    tell("spare", *child, number=number)
    for descriptor in child:
        os.close(descriptor)

def wait():
    while control.recv(65536):
        pass

"""
ITSELF = "os.pidfd_open(os.getpid())"
NONSENSE = {
    "leaves at once": "pass",
    "raises at once": "sys.exit(3)",
    "says nothing": "wait()",
    "says no JSON": r"tell(b'\xff\x00')",
    "says a list": "tell(b'[]')",
    "says too deep a list": "tell(b'[' * 60000)",
    "says another event": "tell('exited'); wait()",
    "gives a descriptor with it": "tell('stop', 0); wait()",
    "is ready without a descriptor": "tell('ready'); wait()",
    "is ready with what names no process": "tell('ready', 0); wait()",
    "is ready with more than it should give": f"tell('ready', {ITSELF}, 0, 0, 0); wait()",
    "is ready with a view that is no folder": f"""
tell('ready', {ITSELF}, 0)
number = 1
take_a_run()
wait()""",
    "leaves when asked for a child": "ready()",
    "answers with silence": "ready(); wait()",
    "answers with nonsense": "ready(); tell(b'null', 0); wait()",
    "answers with an end": "ready(); tell('exited'); wait()",
    "answers without a descriptor": "ready(); tell('spare', number=number); wait()",
    "answers with one descriptor": f"ready(); tell('spare', {ITSELF}, number=number); wait()",
    "answers without a number": "ready(); tell('spare', *fork()); wait()",
    "answers with another number": "ready(); tell('spare', *fork(), number=number + 1); wait()",
    "answers with a number in words": "ready(); tell('spare', *fork(), number='1'); wait()",
    "answers with what names no process": (
        "ready(); tell('spare', 0, fork()[1], number=number); wait()"
    ),
    "answers with what is no socket": "ready(); tell('spare', fork()[0], 0, number=number); wait()",
    "answers twice": "ready(); take_a_run(); take_a_run(); wait()",
    "leaves after the fork": "ready(); take_a_run()",
    "tells no end": "ready(); take_a_run(); tell(b'{}', 0); wait()",
    "tells half an end": "ready(); take_a_run(); tell('exited', number=number, status=0); wait()",
    "tells an end in words": """
ready()
take_a_run()
tell('exited', number=number, status='0', cpu_seconds=0.1)
wait()""",
    "tells the end of nobody": """
ready()
take_a_run()
tell('exited', number=number + 7, status=0, cpu_seconds=0.1)
wait()""",
    "gives a descriptor with an end": """
ready()
take_a_run()
tell('exited', 0, number=number, status=0, cpu_seconds=0.1)
wait()""",
}


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest) -> Host:
    make_host: Callable[[], Host] = HOSTS[request.param]
    return make_host()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the patience with what hangs, but for a keeper that starts."""
    for name in ("FORK_SECONDS", "STOP_SECONDS"):
        monkeypatch.setattr(handle, name, 0.3)
    for name in ("EXIT_SECONDS", "LEAVE_SECONDS", "SETUP_SECONDS"):
        monkeypatch.setattr(run, name, 0.3)
    monkeypatch.setattr(supervisor, "STOP_CHECK_SECONDS", 0.1)


@pytest.mark.parametrize("name", NONSENSE)
def test_keeper_is_ours_and_leaks_nothing_that(
    name: str, tmp_path: Path, host: Host, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "says nothing":
        monkeypatch.setattr(handle, "START_SECONDS", 0.3)
    token = make_name()
    monkeypatch.setattr(handle, "_BOOTSTRAP", name_process(token) + TALK + NONSENSE[name])
    iris = Iris(tmp_path, host)

    with leaving_nothing(host), closing(iris.supervisor):
        ran = iris.run(GOOD)

    assert ran.result.outcome.is_ours
    assert list(iris.scratch_root.glob("*")) == []
    wait_for_none(token)


def test_no_process_for_a_keeper_is_ours(
    tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **names: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    iris = Iris(tmp_path, host)
    monkeypatch.setattr(subprocess, "Popen", refuse)

    with leaving_nothing(host), closing(iris.supervisor):
        ran = iris.run(GOOD)

    assert ran.outcome == "not_started"
    assert "Resource temporarily unavailable" in ran.result.sentence


def test_no_process_for_a_child_is_ours(
    tmp_path: Path,
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    refuse = "import os\ndef refuse(): raise BlockingIOError(11, 'No room')\nos.fork = refuse"
    monkeypatch.setattr(handle, "_BOOTSTRAP", LIGHT_BOOTSTRAP % refuse)
    iris = Iris(tmp_path, host)

    with leaving_nothing(host), closing(iris.supervisor):
        ran = iris.run(GOOD)

    assert ran.outcome == "not_started"
    assert capfd.readouterr().err == "keeper: no child could be forked: No room\n" * 2


# The steps of the child's own, in their order.
STEPS = ["prepare", "become_nobody", "enter"]
FAIL = """
from runapp.runner.sandbox import enter as sandbox
def fail(**names):
    raise OSError(1, "No")
sandbox.{step} = fail
"""


@pytest.mark.parametrize("step", STEPS)
def test_child_that_fails_at_is_ours_and_runs_nothing(
    step: str, tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handle, "_BOOTSTRAP", LIGHT_BOOTSTRAP % FAIL.format(step=step))
    iris = Iris(tmp_path, host)

    with leaving_nothing(host), closing(iris.supervisor):
        ran = iris.run(write_classifier(top="print('participant code')"))

    assert ran.result.outcome.is_ours
    assert ran.reports == []
    assert "participant code" not in ran.result.output


def test_caller_is_asked_while_a_keeper_starts(
    tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handle, "_BOOTSTRAP", TALK + "wait()")
    monkeypatch.setattr(supervisor, "STOP_CHECK_SECONDS", 0.1)
    iris = Iris(tmp_path, host)

    with closing(iris.supervisor):
        ran = iris.run(GOOD, should_stop=lambda: True)

    assert ran.outcome == "stopped"
