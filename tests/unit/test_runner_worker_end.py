"""What is left of a worker that is killed: nothing, whatever it was doing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from runapp.runner.host import Host, survey_host
from tests.unit.runner_folds import HOSTS, is_alive, wait_until, write_classifier
from tests.unit.runner_marks import (
    find_named,
    list_groups,
    make_name,
    name_process,
    wait_for_none,
)

ROOT = Path(__file__).resolve().parents[2]

# The name that a keeper has is that of all its children; each line tells how far the worker is.
WORKER = """
import sys
from pathlib import Path
from tests.unit.runner_folds import HOSTS, LIGHT_BOOTSTRAP, serving, write_classifier

folder, host, moment, naming = Path(sys.argv[1]), HOSTS[sys.argv[2]](), sys.argv[3], sys.argv[4]

def reach(place, *_):
    if place == moment:
        print(iris.supervisor._keeper._process.pid, flush=True)
        sys.stdin.read()

with serving(folder, bootstrap=LIGHT_BOOTSTRAP % naming, host=host) as iris:
    reach("importing")
    assert iris.supervisor._keeper.is_ready(timeout=60)
    reach("idle")
    iris.run(write_classifier())
    reach("between")
    iris.run((folder / "code.py").read_text(), on_stage=lambda _: reach("running"))
"""
HANG = write_classifier(
    fit="""
        ready, done = os.pipe()
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                os.write(done, b".")
                while True: signal.pause()
            os._exit(0)
        os.wait()
        os.read(ready, 1)
    """,
    predict="while True: signal.pause()",
)
# How many processes of the name there are by then: the keeper, the spare or the fold, its daemon.
MOMENTS = {"importing": 0, "idle": 2, "between": 2, "running": 3}


def count_running(host: Host) -> int:
    """Return how many there are while a fold runs; the next one's child may wait already."""
    return MOMENTS["running"] + host.seal.may_overlap


@contextmanager
def starting_worker(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with worker:
        try:
            yield worker
        finally:
            worker.kill()


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("make_host", HOSTS.values(), ids=HOSTS)
def test_everything_ends_quietly_with_a_worker_that_is(
    moment: str, make_host: Callable[[], Host], tmp_path: Path
) -> None:
    name, kind = make_name(), {make: name for name, make in HOSTS.items()}[make_host]
    (tmp_path / "code.py").write_text(HANG)
    n_expected = count_running(make_host()) if moment == "running" else MOMENTS[moment]

    with starting_worker(str(tmp_path), kind, moment, name_process(name)) as worker:
        assert worker.stdout is not None
        launcher = int(worker.stdout.readline())
        if n_expected:
            wait_until(lambda: len(find_named(name)) == n_expected, what=f"{n_expected} processes")
        n_groups = len(list_groups(make_host(), pid=str(worker.pid)))

        worker.kill()
        # The end of the pipe: the last one that could have written to it has gone.
        assert worker.stderr is not None
        complaint = worker.stderr.read()

    assert complaint == b""
    wait_for_none(name)
    wait_until(lambda: not is_alive(launcher), what="the launcher's end")
    host = survey_host()  # which sweeps
    assert list_groups(host, pid=str(worker.pid)) == []
    assert bool(n_groups) == bool(n_expected and make_host().cgroups)
    assert list_groups(make_host(), pid=str(worker.pid)) == []


@pytest.mark.parametrize("victim", ["launcher", "keeper"])
def test_everything_ends_with(victim: str, tmp_path: Path) -> None:
    name = make_name()
    (tmp_path / "code.py").write_text(HANG)

    with starting_worker(str(tmp_path), "sealed", "running", name_process(name)) as worker:
        assert worker.stdout is not None
        launcher = int(worker.stdout.readline())
        n_expected = count_running(survey_host())
        wait_until(lambda: len(find_named(name)) == n_expected, what="a keeper, a fold, its daemon")
        process = psutil.Process(launcher)
        (process if victim == "launcher" else process.children()[0]).kill()

        wait_for_none(name)
        wait_until(lambda: not is_alive(launcher), what="the launcher's end")
