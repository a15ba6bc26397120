"""Keepers, launchers and spares that die, hang or are worn: no fault of the submission's."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from runapp.runner import run, supervisor
from runapp.runner.contract import StageReport
from runapp.runner.keeper import handle
from tests.unit.runner_folds import (
    HOSTS,
    LIGHT_BOOTSTRAP,
    Iris,
    is_alive,
    serving,
    wait_until,
    write_classifier,
)
from tests.unit.runner_marks import (
    Look,
    find_named,
    leaving_nothing,
    list_groups,
    make_name,
    name_process,
    wait_for_none,
)

# Leaves a process behind that nobody but the keeper could find.
DAEMON = """
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
"""
GOOD_NAME = make_name()
GOOD = write_classifier(top=name_process(GOOD_NAME))


def write_hanging(look: Look) -> str:
    return write_classifier(top=look.naming, fit=DAEMON, predict="while True: signal.pause()")


@pytest.fixture(scope="module", params=HOSTS)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Iris]:
    folder, host = tmp_path_factory.mktemp("iris"), HOSTS[request.param]()
    with serving(folder, bootstrap=LIGHT_BOOTSTRAP % "", host=host) as iris:
        yield iris


@pytest.fixture
def iris(served: Iris) -> Iris:
    """Return one whose keeper and spare child wait, whatever the last test has done to them."""
    assert served.run(GOOD).outcome == "tested"
    find_spare(served)
    return served


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the patience with what hangs, but for a keeper that starts."""
    for name in ("FORK_SECONDS", "STOP_SECONDS"):
        monkeypatch.setattr(handle, name, 0.3)
    for name in ("EXIT_SECONDS", "LEAVE_SECONDS", "SETUP_SECONDS"):
        monkeypatch.setattr(run, name, 0.3)
    monkeypatch.setattr(supervisor, "STOP_CHECK_SECONDS", 0.1)


def find_launcher(iris: Iris) -> psutil.Process:
    """Return the keeper's parent; without namespaces it is the keeper itself."""
    assert iris.supervisor._keeper is not None
    return psutil.Process(iris.supervisor._keeper._process.pid)


def find_spare(iris: Iris) -> psutil.Process:
    """Return the child that waits; the last run's may still be on its way out."""
    wait_until(lambda: len(list_spares(iris)) == 1, what="a spare child")
    return list_spares(iris)[0]


def list_spares(iris: Iris) -> list[psutil.Process]:
    folds = find_named(GOOD_NAME)
    children = iris.keeper.children()
    return [child for child in children if is_alive(child.pid) and child.pid not in folds]


def wait_for_end(*processes: psutil.Process) -> None:
    wait_until(lambda: not any(is_alive(process.pid) for process in processes), what="their end")


# Of whom, while no fold runs.
VICTIMS: dict[str, Callable[[Iris], psutil.Process]] = {
    "the keeper": lambda iris: iris.keeper,
    "the launcher": find_launcher,
}


@pytest.mark.parametrize("victim", VICTIMS)
def test_keeper_is_replaced_after_the_death_of(victim: str, iris: Iris) -> None:
    keeper, launcher, spare = iris.keeper, find_launcher(iris), find_spare(iris)

    VICTIMS[victim](iris).kill()
    wait_for_end(keeper, launcher, spare)
    ran = iris.run(GOOD)

    assert ran.outcome == "tested"
    assert iris.keeper.pid != keeper.pid


def test_keeper_that_hangs_while_idle_is_replaced(iris: Iris, hasty: None) -> None:
    keeper, launcher, spare = iris.keeper, find_launcher(iris), find_spare(iris)
    keeper.suspend()

    rans = [iris.run(GOOD), iris.run(GOOD)]

    # The first one finds the spare waiting; without the keeper its end is not told.
    assert [ran.outcome for ran in rans] == ["tested", "tested"]
    assert iris.keeper.pid != keeper.pid
    wait_for_end(keeper, launcher, spare)


def test_launcher_that_hangs_while_idle_does_no_harm(iris: Iris) -> None:
    keeper, launcher = iris.keeper, find_launcher(iris)
    if launcher.pid == keeper.pid:
        pytest.skip("without namespaces the launcher has become the keeper")
    launcher.suspend()

    ran = iris.run(GOOD)

    launcher.resume()
    assert ran.outcome == "tested"
    assert iris.keeper.pid == keeper.pid


def test_keeper_that_died_before_its_launcher_leaves_no_group(iris: Iris, hasty: None) -> None:
    keeper, launcher, spare = iris.keeper, find_launcher(iris), find_spare(iris)
    if launcher.pid == keeper.pid:
        pytest.skip("without namespaces the launcher has become the keeper")
    launcher.suspend()
    keeper.kill()
    wait_for_end(keeper, spare)

    ran = iris.run(GOOD)

    iris.supervisor.close()
    assert ran.outcome == "tested"
    assert list_groups(iris.supervisor.host) == []


def test_environment_holds_nothing_of_the_workers(
    iris: Iris, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATARUN_SECRET_KEY", "hush")
    keeper = iris.keeper
    keeper.kill()
    wait_for_end(keeper)

    ran = iris.run(write_classifier(fit="print(*sorted(os.environ))"))

    # Where the base interpreter is shown in another place, its libraries are looked for there;
    # what chooses among numerical kernels is handed on, to have the same bits on every machine.
    assert set(ran.printed) - {"LD_LIBRARY_PATH", *handle._KERNEL_CHOICES} == {
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
    look = Look()
    keeper = iris.keeper

    def fail(report: StageReport) -> None:
        look(report)
        raise LookupError("the database is away")

    with pytest.raises(LookupError, match="away"):
        iris.run(
            write_classifier(top=look.naming, fit="if os.fork() == 0: signal.pause()"),
            on_stage=fail,
        )

    assert len(look.pids) == 2
    wait_for_none(look.name)
    wait_for_end(keeper)
    assert list(iris.scratch_root.glob("*")) == []
    assert list_groups(iris.supervisor.host) == []
    assert iris.run(GOOD).outcome == "tested"


def test_spare_child_killed_while_idle_is_replaced(iris: Iris) -> None:
    keeper = iris.keeper
    spare = find_spare(iris)
    spare.kill()
    wait_for_end(spare)

    ran = iris.run(GOOD)

    assert ran.outcome == "tested"
    assert iris.keeper == keeper


def test_spare_children_killed_one_after_the_other_are_ours(
    iris: Iris, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_spare = handle.KeeperProcess._take_spare

    def take_and_kill(self: handle.KeeperProcess) -> handle.Child:
        child = take_spare(self)
        os.kill(child.pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(child.pid), what="the spare's death")
        return child

    before = list_groups(iris.supervisor.host)
    monkeypatch.setattr(handle.KeeperProcess, "_take_spare", take_and_kill)

    ran = iris.run(GOOD)

    monkeypatch.undo()
    assert ran.outcome == "not_started"
    assert "died while it waited" in ran.result.sentence
    assert iris.run(GOOD).outcome == "tested"
    # Fewer, if the group of an earlier run was still to be removed.
    assert len(list_groups(iris.supervisor.host)) <= len(before)


def test_spare_child_that_hangs_is_ours(iris: Iris, hasty: None) -> None:
    spare = find_spare(iris)
    spare.suspend()

    ran = iris.run(GOOD)

    assert (ran.outcome, ran.result.sentence) == (
        "setup_failed",
        "the child did not begin in time",
    )
    assert not is_alive(spare.pid)
    assert iris.run(GOOD).outcome == "tested"


STRIKES = {
    "the keeper killed": ("the keeper", signal.SIGKILL),
    "the keeper stopped": ("the keeper", signal.SIGSTOP),
    "the launcher killed": ("the launcher", signal.SIGKILL),
}


@pytest.mark.parametrize("name", STRIKES)
def test_fold_is_lost_with(name: str, iris: Iris, hasty: None) -> None:
    victim, number = STRIKES[name]
    keeper, launcher, look = iris.keeper, find_launcher(iris), Look()

    def strike(report: StageReport) -> None:
        look.pids = look.find()
        child = look.find_first()
        VICTIMS[victim](iris).send_signal(number)
        if number == signal.SIGSTOP:
            child.kill()

    ran = iris.run(write_hanging(look), on_stage=strike)

    assert ran.outcome == "lost"
    assert ran.result.usage.train_seconds is not None
    assert len(look.pids) == 2
    wait_for_none(look.name)
    wait_for_end(keeper, launcher)
    assert list(iris.scratch_root.glob("*")) == []
    assert iris.run(GOOD).outcome == "tested"


def test_launcher_that_hangs_while_a_fold_runs_does_no_harm(iris: Iris) -> None:
    keeper, launcher = iris.keeper, find_launcher(iris)
    if launcher.pid == keeper.pid:
        pytest.skip("without namespaces the launcher has become the keeper")

    ran = iris.run(GOOD, on_stage=lambda report: launcher.suspend())

    launcher.resume()
    assert ran.outcome == "tested"


def test_limit_counts_although_the_keeper_hangs(iris: Iris, hasty: None) -> None:
    look = Look()

    def strike(report: StageReport) -> None:
        look.pids = look.find()
        iris.keeper.suspend()

    ran = iris.run(write_hanging(look), on_stage=strike, wall_seconds=0.5)

    assert ran.outcome == "wall_limit"
    assert len(look.pids) == 2
    wait_for_none(look.name)


def test_complete_report_counts_although_the_keeper_dies(iris: Iris) -> None:
    def strike(report: StageReport) -> None:
        if report.usage.test_seconds is not None:
            iris.keeper.kill()

    ran = iris.run(GOOD, on_stage=strike)

    assert ran.outcome == "tested"
    assert ran.result.usage.test_seconds is not None


def test_losses_leave_no_descriptor_and_no_group(iris: Iris, hasty: None, tmp_path: Path) -> None:
    other = Iris(tmp_path, iris.supervisor.host)
    losses: list[Callable[[StageReport], object]] = [
        lambda report: other.keeper.kill(),
        lambda report: find_launcher(other).kill(),
        lambda report: other.keeper.suspend(),
    ]
    with pytest.MonkeyPatch.context() as patch, leaving_nothing(iris.supervisor.host):
        patch.setattr(handle, "_BOOTSTRAP", LIGHT_BOOTSTRAP % "")
        look = Look()
        for loss in losses:
            ran = other.run(write_hanging(look), on_stage=loss, wall_seconds=1)
            assert ran.outcome in {"lost", "wall_limit"}
        other.supervisor.close()
    wait_for_none(look.name)


@pytest.fixture
def worn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handle, "MOST_RUNS", 3)


@pytest.fixture(params=HOSTS)
def fresh_iris(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Iris]:
    """Return one with a keeper of its own, to be worn out."""
    host = HOSTS[request.param]()
    with serving(tmp_path, bootstrap=LIGHT_BOOTSTRAP % "", host=host) as iris:
        yield iris


def test_worn_keeper_is_followed_by_another_without_a_failed_fold(
    fresh_iris: Iris, worn: None
) -> None:
    iris = fresh_iris
    iris.run(GOOD)
    first, launcher = iris.keeper, find_launcher(iris)
    outcomes: list[str] = []

    def is_followed() -> bool:
        outcomes.append(iris.run(GOOD).outcome)
        return iris.keeper.pid != first.pid

    wait_until(is_followed, what="another keeper")

    assert set(outcomes) == {"tested"}
    assert len(outcomes) >= 2
    wait_for_end(first, launcher)
    assert iris.run(GOOD).outcome == "tested"


def test_worn_keeper_leaves_nothing_behind(fresh_iris: Iris, worn: None, tmp_path: Path) -> None:
    name = make_name()
    with leaving_nothing(fresh_iris.supervisor.host), pytest.MonkeyPatch.context() as patch:
        patch.setattr(handle, "_BOOTSTRAP", LIGHT_BOOTSTRAP % name_process(name))
        other = Iris(tmp_path, fresh_iris.supervisor.host)
        outcomes = [other.run(GOOD).outcome for _ in range(8)]
        # By now there is a successor, ready or not.
        other.supervisor.close()

    assert outcomes == ["tested"] * 8
    wait_for_none(name)


def test_successor_that_does_not_start_costs_no_fold_and_is_forgotten(
    fresh_iris: Iris, monkeypatch: pytest.MonkeyPatch
) -> None:
    iris = fresh_iris
    iris.run(GOOD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handle, "MOST_RUNS", 1)
        patch.setattr(handle, "_BOOTSTRAP", "raise SystemExit(3)")
        first = iris.run(GOOD)
        successor = iris.supervisor._successor
        assert successor is not None
        wait_until(lambda: not successor.is_alive, what="its end")

    rans = [iris.run(GOOD), iris.run(GOOD)]
    keeper = iris.keeper
    rans.append(iris.run(GOOD))

    assert {ran.outcome for ran in [first, *rans]} == {"tested"}
    assert iris.supervisor._successor is None
    assert iris.keeper == keeper
