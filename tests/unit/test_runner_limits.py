"""Limits: each is met from outside, whatever the submission does about it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from tests.unit.runner_folds import HOSTS, LIGHT_BOOTSTRAP, Iris, serving, write_classifier

HANG = "signal.pause()"


@pytest.fixture(scope="module", params=HOSTS)
def iris(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Iris]:
    folder, host = tmp_path_factory.mktemp("iris"), HOSTS[request.param]()
    with serving(folder, bootstrap=LIGHT_BOOTSTRAP % "", host=host) as iris:
        yield iris


def test_predictions_over_their_cap_are_an_output_limit(iris: Iris) -> None:
    ran = iris.run(write_classifier(), max_predictions_bytes=100)

    assert ran.outcome == "output_limit"
    assert "2520 bytes, more than the 100 allowed" in ran.result.sentence


def test_wall_limit_ends_what_waits(iris: Iris) -> None:
    ran = iris.run(write_classifier(fit=HANG), wall_seconds=0.3)

    assert ran.outcome == "wall_limit"
    assert re.fullmatch(r"wall limit: ran for 0\.\d s of 0\.3 s", ran.result.sentence)


def test_cpu_limit_ends_what_computes_in_several_processes(iris: Iris) -> None:
    burn = "os.fork()\nos.fork()\nwhile True: pass"

    ran = iris.run(write_classifier(fit=burn), cpu_seconds=0.5)

    assert ran.outcome == "cpu_limit"
    assert ran.result.usage.train_cpu_seconds is not None
    # A busy machine looks later than it would.
    assert 0.5 < ran.result.usage.train_cpu_seconds < 2


def test_cpu_limit_counts_what_has_ended_as_an_orphan(iris: Iris) -> None:
    burn = """
        if os.fork() == 0:
            if os.fork() == 0:
                while time.process_time() < 0.4: pass
            os._exit(0)
        os.wait()
        signal.pause()
    """

    ran = iris.run(write_classifier(fit=burn), cpu_seconds=0.35, wall_seconds=20)

    assert ran.outcome == "cpu_limit"


def test_memory_limit_by_an_allocation_names_the_limit(iris: Iris) -> None:
    ran = iris.run(write_classifier(fit="np.ones(400 * 2**17)"), memory_mb=300)

    assert ran.outcome == "memory_limit"
    assert "300 MB" in ran.result.sentence


def test_memory_limit_counts_grandchildren(iris: Iris) -> None:
    grow = """
        for _ in range(3):
            if os.fork() == 0:
                block = np.ones(120 * 2**17)
                signal.pause()
        signal.pause()
    """

    ran = iris.run(write_classifier(fit=grow), memory_mb=250, wall_seconds=20)

    assert ran.outcome == "memory_limit"
    assert re.search(r"used \d+ MB of 250 MB", ran.result.sentence)


def test_job_that_is_larger_than_the_memory_limit_meets_it_before_it_begins(iris: Iris) -> None:
    if not iris.supervisor.host.cgroups.memory:
        pytest.skip("without a cgroup only a run that has begun is limited")
    begun: list[bool] = []
    files = {"classifier.py": write_classifier(), "weights.txt": "0" * (200 * 2**20)}

    ran = iris.run(files, memory_mb=64, scratch_mb=512, on_start=lambda: begun.append(True))

    assert ran.outcome == "memory_limit"
    assert re.fullmatch(r"memory limit: used \d+ MB of 64 MB", ran.result.sentence)
    assert not begun


def test_process_limit_ends_what_forks_too_much(iris: Iris) -> None:
    bomb = "for _ in range(12):\n    if os.fork() == 0: signal.pause()\nsignal.pause()"

    ran = iris.run(write_classifier(fit=bomb), processes=10, wall_seconds=20)

    assert ran.outcome == "submission_error"
    # Where a cgroup counts, it tells of what it has refused.
    refused = "Resource temporarily unavailable"
    if iris.supervisor.host.cgroups.pids:
        refused += r".*1 processes or threads more than the 10 allowed"
    assert re.search(rf"process limit: 1\d processes of 10|{refused}", ran.result.sentence)


def test_stop_ends_the_run_at_the_next_question(iris: Iris) -> None:
    started = time.monotonic()

    ran = iris.run(write_classifier(fit=HANG), should_stop=lambda: True)

    assert ran.outcome == "stopped"
    assert time.monotonic() - started < 2


def test_caller_is_asked_some_times_a_second(iris: Iris) -> None:
    asked: list[float] = []

    iris.run(
        write_classifier(fit=HANG),
        should_stop=lambda: asked.append(time.monotonic()) is not None,
        wall_seconds=2.4,
    )

    # Four times a second, and not at every look at the limits.
    assert 1 <= len(asked) <= 12
