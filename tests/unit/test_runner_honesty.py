"""Honest figures: what a fold is told to have used, against what its own clocks say it burned."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runapp.runner.contract import Usage
from tests.unit.runner_folds import HOSTS, LIGHT_BOOTSTRAP, Iris, serving, write_classifier

MB = 2**20
# What a fold of this size uses beside what it is made to use here: the interpreter's own work
# between two looks, the pages that it shares with its keeper and writes to.
BASELINE_CPU_SECONDS = 0.03
BASELINE_BYTES = 6 * MB
# A busy machine changes nothing: each process burns until its own clock says that it has.
BURN = """
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass

def burn_in_child(seconds):
    child = os.fork()
    if child == 0:
        burn(seconds)
        os._exit(0)
    return child
"""
WAYS = {
    "in one process": "burn(1)",
    "in one child": "burn_in_child(1)\nos.wait()",
    "in four processes": """
        for _ in range(4):
            burn_in_child(0.25)
        for _ in range(4):
            os.wait()
    """,
    "one after the other": """
        for _ in range(4):
            os.waitpid(burn_in_child(0.25), 0)
    """,
    "in orphans": """
        reading, writing = os.pipe()
        for _ in range(2):
            if os.fork() == 0:
                os.setsid()
                burn_in_child(0.5)
                os._exit(0)
            os.wait()
        os.close(writing)
        os.read(reading, 1)
    """,
    "in threads": """
        import threading
        threads = [threading.Thread(target=burn_by_thread) for _ in range(2)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
    """,
}
THREADS = """
def burn_by_thread():
    end = time.thread_time() + 0.5
    while time.thread_time() < end:
        pass
"""
# Nobody waits for these, so that only a cgroup knows what they have used.
UNSEEN = """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    reading, writing = os.pipe()
    for _ in range(4):
        burn_in_child(0.25)
    os.close(writing)
    os.read(reading, 1)
"""


@pytest.fixture(scope="module", params=HOSTS)
def iris(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Iris]:
    folder, host = tmp_path_factory.mktemp("iris"), HOSTS[request.param]()
    with serving(folder, bootstrap=LIGHT_BOOTSTRAP % "", host=host) as iris:
        yield iris


def measure(iris: Iris, fit: str) -> Usage:
    ran = iris.run(write_classifier(top=BURN + THREADS, fit=fit))
    assert ran.outcome == "tested", ran.result
    return ran.result.usage


def has_group(iris: Iris, usage: Usage) -> bool:
    """Tell whether a cgroup made the figures, which then miss nothing."""
    assert usage.measured_by is not None
    is_counted = iris.supervisor.host.cgroups.cpuacct is not None
    assert ("cpu: cgroup" in usage.measured_by) is is_counted
    return is_counted


@pytest.mark.parametrize("way", WAYS)
def test_second_of_cpu_is_told_as_one_when_burned(way: str, iris: Iris) -> None:
    usage = measure(iris, WAYS[way])

    assert usage.train_cpu_seconds is not None
    used = usage.train_cpu_seconds - BASELINE_CPU_SECONDS
    # Without a cgroup, ticks of 10 ms are what is known of a process that has ended.
    tolerance = 0.05 if has_group(iris, usage) else 0.1
    assert used == pytest.approx(1.0, abs=tolerance)


def test_cpu_of_children_that_nobody_waits_for_is_told_where_a_cgroup_counts(iris: Iris) -> None:
    usage = measure(iris, UNSEEN)

    assert usage.train_cpu_seconds is not None
    used = usage.train_cpu_seconds - BASELINE_CPU_SECONDS
    if has_group(iris, usage):
        assert used == pytest.approx(1.0, abs=0.05)
    else:
        # A lower bound: what has ended unseen is missing, and nothing is made up.
        assert used < 1.1


TOUCHES = {
    "in one process": "self.block = np.ones(200 * 2**17)",
    "and given back": "np.ones(200 * 2**17)",
    "in a child": """
        reading, writing = os.pipe()
        if os.fork() == 0:
            block = np.ones(200 * 2**17)
            os.write(writing, b".")
            signal.pause()
        os.read(reading, 1)
    """,
    "in a shared mapping": """
        import mmap
        self.block = mmap.mmap(-1, 200 * 2**20)
        for start in range(0, 200 * 2**20, 4096):
            self.block[start] = 1
    """,
}


@pytest.mark.parametrize("way", TOUCHES)
def test_200_megabytes_are_told_as_such_when_touched(way: str, iris: Iris) -> None:
    usage = measure(iris, TOUCHES[way])

    assert usage.train_peak_bytes is not None
    told = usage.train_peak_bytes - BASELINE_BYTES
    assert told == pytest.approx(200 * MB, rel=0.05)
