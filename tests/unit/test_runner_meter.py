"""What a run is said to have used, against what it was made to use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runapp.runner.contract import StageReport, Usage
from tests.unit.runner_folds import HOSTS, LIGHT_BOOTSTRAP, Iris, serving, write_classifier

# The machine may be busy: what a process burns is measured by its own clock.
BURN = """
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
"""
MB = 2**20


@pytest.fixture(scope="module", params=HOSTS)
def iris(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Iris]:
    folder, host = tmp_path_factory.mktemp("iris"), HOSTS[request.param]()
    with serving(folder, bootstrap=LIGHT_BOOTSTRAP % "", host=host) as iris:
        yield iris


def measure(iris: Iris, **statements: str) -> Usage:
    ran = iris.run(write_classifier(top=BURN, **statements))
    assert ran.outcome == "tested", ran.result
    return ran.result.usage


def test_idle_fold_uses_next_to_nothing(iris: Iris) -> None:
    usage = measure(iris)

    assert usage.train_cpu_seconds is not None
    assert 0 <= usage.train_cpu_seconds < 0.1
    assert usage.train_peak_bytes is not None
    assert 0 < usage.train_peak_bytes < 30 * MB
    assert usage.measured_by


def test_cpu_of_the_fit_is_the_trainings(iris: Iris) -> None:
    usage = measure(iris, fit="burn(0.5)")

    assert usage.train_cpu_seconds == pytest.approx(0.5, rel=0.2)
    assert usage.train_seconds is not None
    assert usage.train_seconds > 0.49
    assert usage.test_cpu_seconds is not None
    assert usage.test_cpu_seconds < 0.15


def test_cpu_of_a_child_process_is_counted(iris: Iris) -> None:
    usage = measure(iris, fit="if os.fork() == 0:\n    burn(0.5)\n    os._exit(0)\nos.wait()")

    assert usage.train_cpu_seconds == pytest.approx(0.5, rel=0.2)


def test_cpu_of_a_child_that_nobody_waited_for_is_counted(iris: Iris) -> None:
    usage = measure(
        iris,
        fit="""
            ready, done = os.pipe()
            if os.fork() == 0:
                if os.fork() == 0:
                    burn(0.5)
                    os._exit(0)
                os._exit(0)
            os.wait()
            os.close(done)
            os.read(ready, 1)
        """,
    )

    assert usage.train_cpu_seconds == pytest.approx(0.5, rel=0.2)


def test_cpu_of_threads_is_counted(iris: Iris) -> None:
    usage = measure(
        iris,
        fit="""
            import threading
            thread = threading.Thread(target=burn, args=(0.3,))
            thread.start()
            thread.join()
        """,
    )

    assert usage.train_cpu_seconds == pytest.approx(0.3, rel=0.2)


def test_cpu_of_the_test_part_is_apart_from_that_of_the_train_part(iris: Iris) -> None:
    usage = measure(iris, predict="burn(0.4 if len(X) == 45 else 0.2)")

    assert usage.train_cpu_seconds is not None
    assert usage.train_cpu_seconds < 0.15
    assert usage.test_cpu_seconds == pytest.approx(0.4, rel=0.25)
    assert usage.validation_seconds is not None
    assert usage.validation_seconds > 0.19
    assert usage.test_seconds is not None
    assert usage.test_seconds > 0.39


def test_memory_that_is_kept_is_the_peak_of_both_stages(iris: Iris) -> None:
    usage = measure(iris, fit="self.block = np.ones(200 * 2**17)")

    assert usage.train_peak_bytes == pytest.approx(205 * MB, rel=0.15)
    assert usage.test_peak_bytes == pytest.approx(205 * MB, rel=0.15)


def test_memory_that_is_given_back_is_the_peak_of_its_stage_alone(iris: Iris) -> None:
    usage = measure(iris, fit="np.ones(200 * 2**17)")

    assert usage.train_peak_bytes == pytest.approx(205 * MB, rel=0.15)
    assert usage.test_peak_bytes is not None
    assert usage.test_peak_bytes < 60 * MB


def test_memory_of_a_child_process_is_counted(iris: Iris) -> None:
    usage = measure(
        iris,
        fit="""
            ready, done = os.pipe()
            if os.fork() == 0:
                block = np.ones(200 * 2**17)
                os.write(done, b".")
                signal.pause()
            os.read(ready, 1)
        """,
    )

    assert usage.train_peak_bytes == pytest.approx(205 * MB, rel=0.15)


def test_memory_shared_between_processes_is_counted_once(iris: Iris) -> None:
    usage = measure(
        iris,
        fit="""
            self.block = np.ones(200 * 2**17)
            for _ in range(2):
                if os.fork() == 0:
                    signal.pause()
        """,
    )

    assert usage.train_peak_bytes is not None
    assert usage.train_peak_bytes < 400 * MB


def test_usage_of_a_fold_that_dies_in_training_is_the_trainings(iris: Iris) -> None:
    ran = iris.run(write_classifier(top=BURN, fit="burn(0.3)\nraise ValueError"))

    usage = ran.result.usage
    assert usage.train_cpu_seconds == pytest.approx(0.3, rel=0.3)
    assert usage.train_seconds is not None
    assert usage.validation_seconds is usage.test_seconds is usage.test_cpu_seconds is None


ENDINGS = {
    "its error": "raise ValueError",
    "a wall limit": "signal.pause()",
    "a memory limit": "np.ones(2**30)",
}


@pytest.mark.parametrize("name", ENDINGS)
def test_memory_of_a_fold_that_dies_in_training_is_told(name: str, iris: Iris) -> None:
    fit = f"self.block = np.ones(200 * 2**17)\n{ENDINGS[name]}"

    ran = iris.run(write_classifier(fit=fit), wall_seconds=1.5)

    assert ran.outcome != "tested"
    assert ran.result.usage.train_peak_bytes == pytest.approx(205 * MB, rel=0.15)


@pytest.mark.parametrize("fit", ["raise ValueError", "while True: pass"])
def test_memory_of_a_fold_that_dies_at_once_is_not_nothing(fit: str, iris: Iris) -> None:
    ran = iris.run(write_classifier(fit=fit), cpu_seconds=0.1)

    assert ran.result.usage.train_peak_bytes is not None
    assert 0 < ran.result.usage.train_peak_bytes < 30 * MB


def test_usage_of_a_fold_that_dies_in_testing_keeps_the_trainings(iris: Iris) -> None:
    told: list[StageReport] = []

    ran = iris.run(
        write_classifier(predict="if len(X) == 45: raise ValueError"), on_stage=told.append
    )

    assert ran.outcome == "submission_error"
    assert ran.result.usage == told[-1].usage
    assert ran.result.usage.validation_seconds is not None
