"""Every hostile submission in one slot, and an honest fold in the same slot after each."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
import psutil
import pytest
from runapp.execution.training import write_log
from runapp.runner.child.splitting import Parts
from runapp.runner.contract import FoldJob, Outcome, RunResult, StageReport
from runapp.runner.data import dataframes
from runapp.runner.host import survey_host
from runapp.runner.sandbox.levels import Level
from runapp.runner.supervisor import Supervisor
from test_files import local
from test_files.examples import IRIS, RANDOM_STATE
from tests.hostile_cases import (
    CASES,
    PROJECT,
    Bait,
    Case,
    find_marked_on_host,
    laid_bait,
    list_cases_at,
    load_case,
    split,
)
from tests.unit.runner_folds import make_job, wait_until

BEST = Level.ROOT if os.geteuid() == 0 else Level.USER
OTHERS = [level for level in (Level.USER, Level.LANDLOCK) if level is not BEST]
PAIRS = [
    *((BEST, name) for name in CASES),
    *((level, name) for level in OTHERS for name in list_cases_at(level)),
]
# Every level, and cases of every kind: what a short run tries.
SAMPLE = PAIRS[::8]
FOREST = IRIS.folder / "submissions" / "forest"
HONEST_ROWS = np.arange(0, 100, 3)


@dataclass
class Slot:
    """One supervisor with its warm keeper, at one level."""

    level: Level
    folder: Path
    bait: Bait
    supervisor: Supervisor = field(init=False)

    def __post_init__(self) -> None:
        self.inputs = self.folder / "inputs"
        self.scratch_root = self.folder / "runs"
        self.inputs.mkdir()
        self.host = survey_host(best=self.level)
        # Some of the cases would harm a host on which nothing holds them back.
        assert self.host.seal.level is self.level is not Level.PROCESS, self.host.reasons
        self.supervisor = Supervisor(
            scratch_root=self.scratch_root, inputs_root=self.inputs, host=self.host
        )

    def load_case(self, name: str) -> Case:
        groups = self.host.cgroups
        has_groups = groups.memory is not None and groups.cpuacct is not None
        return load_case(name, self.level, has_groups=has_groups)

    def run_case(self, case: Case) -> tuple[RunResult, list[StageReport]]:
        submission = Path(tempfile.mkdtemp(dir=self.folder)) / case.name
        files = {path.name: path.read_bytes() for path in case.write_files(submission, self.bait)}
        job = make_job({}, parts=split(case.example.name), train_is=np.array(case.train_is))
        job = replace(job, files=files, limits=replace(job.limits, **case.limits))
        if case.elements == "regressor":
            job = replace(job, elements=("regressor",), n_classes=None, class_columns=())
        return self.run(job, parts=split(case.example.name))

    def run_honest_fold(self) -> list[bytes]:
        """Train the forest on iris and return the bytes of its predictions."""
        files = {path.name: path.read_text() for path in FOREST.glob("*.py")}
        parts = split(IRIS.name)
        result, reports = self.run(make_job(files, parts=parts, train_is=HONEST_ROWS), parts=parts)
        assert result.outcome is Outcome.TESTED, result
        return [one.predictions.tobytes() for one in reports if one.predictions is not None]

    def run(self, job: FoldJob, *, parts: Parts) -> tuple[RunResult, list[StageReport]]:
        reports: list[StageReport] = []
        train, test = self.inputs / "X_train", self.inputs / "X_test"
        for path, X in ((train, parts.X_train), (test, parts.X_test)):
            with path.open("wb") as file:
                dataframes.write_frame(X, file)
        with train.open("rb") as x_train, test.open("rb") as x_test:
            before = describe_file(train), describe_file(test)
            result = self.supervisor.run_fold(
                job=job,
                x_train=x_train,
                x_test=x_test,
                on_stage=reports.append,
                should_stop=lambda: False,
            )
        self.changed_inputs = (describe_file(train), describe_file(test)) != before
        return result, reports

    def find_left_behind(self) -> list[str]:
        """Tell of all that the last run has changed outside of itself."""
        left = [*self.bait.find_marks(), *find_marked_on_host(self.bait)]
        if self.changed_inputs:
            left.append("the inputs were changed")
        left += [f"scratch {path.name}" for path in self.scratch_root.glob("*")]
        return left

    def list_descendants(self) -> list[psutil.Process]:
        """Return whatever lives below the keeper: between runs the spare child alone."""
        assert self.supervisor._keeper is not None
        return psutil.Process(self.supervisor._keeper.pid).children(recursive=True)

    def list_groups(self) -> set[str]:
        """Return the control groups that this process has made: the spare's and the last run's."""
        cgroups = self.host.cgroups
        places = (cgroups.memory, cgroups.pids, cgroups.cpu, cgroups.cpuacct)
        mine = f"-{os.getpid()}-"
        return {
            path.name
            for place in places
            if place is not None
            for path in place.folder.glob("datarun-*")
            if mine in path.name
        }


def describe_file(path: Path) -> tuple[object, ...]:
    """Return all of a file that a fold might change."""
    info = path.stat()
    what = (info.st_mode, info.st_uid, info.st_size, info.st_mtime_ns, info.st_nlink)
    return (*what, tuple(os.listxattr(path)), path.read_bytes())


@contextlib.contextmanager
def serving(level: Level) -> Iterator[Slot]:
    # Not below pytest's own folder, which others may not enter: a mode is not what is tried.
    with tempfile.TemporaryDirectory(prefix="datarun-cases-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with laid_bait(folder / "bait") as bait:
            slot = Slot(level, folder, bait)
            slot.supervisor.warm_up()
            yield slot
            slot.supervisor.close()
            assert slot.list_groups() == set()


@dataclass
class Slots:
    """The slot of one level at a time, kept for as long as the next case is for that level."""

    stack: contextlib.ExitStack
    open: Slot | None = None

    def get(self, level: Level) -> Slot:
        if self.open is None or self.open.level is not level:
            self.stack.close()
            self.open = self.stack.enter_context(serving(level))
        return self.open


@pytest.fixture(scope="module")
def slots() -> Iterator[Slots]:
    with contextlib.ExitStack() as stack:
        yield Slots(stack)


@cache
def train_honestly() -> list[bytes]:
    assert IRIS.held_out_test is not None
    predictions = local.train_locally(
        csv_path=IRIS.data_file,
        target_column=IRIS.target,
        workflow_elements=IRIS.elements,
        submission_path=FOREST,
        held_out_test=IRIS.held_out_test,
        random_state=RANDOM_STATE,
        train_is=HONEST_ROWS,
    )
    return [one.tobytes() for one in predictions]


@pytest.mark.parametrize(
    ("level", "name"),
    [
        pytest.param(
            *pair,
            id=f"{pair[0].name.lower()}-{pair[1]}",
            marks=() if pair in SAMPLE else pytest.mark.full,
        )
        for pair in PAIRS
    ],
)
def test_hostile_submission_ends_as_expected_and_leaves_nothing(
    level: Level, name: str, slots: Slots
) -> None:
    slot = slots.get(level)
    case = slot.load_case(name)
    if case.after is not None:
        slot.run_case(slot.load_case(case.after))

    result, reports = slot.run_case(case)

    assert_ended_as_expected(result, case)
    assert slot.bait.secret not in result.output + result.sentence + result.traceback
    if case.state == "TESTED":
        assert_constant(reports, case)
    # The verdict does not wait for the last of a killed tree.
    wait_until(lambda: len(slot.list_descendants()) == 1, what="the spare child alone")
    assert slot.find_left_behind() == list(case.leaves)
    assert slot.run_honest_fold() == train_honestly()
    # The spare's, and that of the honest fold, which is removed when the next one begins.
    wait_until(lambda: len(slot.list_groups()) <= 2, what="the groups of earlier runs are gone")


def assert_ended_as_expected(result: RunResult, case: Case) -> None:
    log = write_log(result)
    code = None if result.outcome is Outcome.TESTED else result.outcome.value
    assert ("ERROR" if code else "TESTED", code) == (case.state, case.error_code), log
    for text in case.log_contains:
        assert text in log, log
    for text in case.log_lacks:
        assert text not in log, log


def assert_constant(reports: list[StageReport], case: Case) -> None:
    parts = split(case.example.name)
    predictions = [report.predictions for report in reports if report.predictions is not None]
    assert len(predictions) == 2
    for values, y in zip(predictions, (parts.y_train, parts.y_test), strict=True):
        assert np.array_equal(values, np.array([case.row] * len(y), dtype=float))


# What a copy of the project might show or lose, when it lies where every run has its own /tmp.
IN_A_COPY = ("leaves_a_file", "lists_the_root", "reads_the_project", "writes_outside_of_its_folder")


@pytest.mark.full
def test_hostile_submissions_of_a_project_below_tmp_end_as_expected() -> None:
    with tempfile.TemporaryDirectory(prefix="datarun-copy-", dir="/tmp") as name:
        copy = Path(name)
        copy.chmod(0o755)
        for part in ("datarun", "runapp", "test_files", "tests"):
            shutil.copytree(PROJECT / part, copy / part, ignore=shutil.ignore_patterns("demo_home"))
        for part in ("manage.py", "pyproject.toml"):
            shutil.copy(PROJECT / part, copy / part)
        chosen = [f"{BEST.name.lower()}-{case}" for case in IN_A_COPY]

        arguments = ["-q", "-p", "no:cacheprovider", "-k", " or ".join(chosen)]
        told = subprocess.run(
            [sys.executable, "-m", "pytest", f"{copy}/tests/hostile/test_hostile.py", *arguments],
            cwd=copy,
            capture_output=True,
            text=True,
        )

    assert f"{len(IN_A_COPY)} passed" in told.stdout, told.stdout + told.stderr


@pytest.mark.parametrize("level", [BEST, *OTHERS], ids=lambda level: level.name.lower())
def test_run_has_the_interpreter_of_its_worker(level: Level, slots: Slots) -> None:
    code = "import sys\nraise ValueError(sys.version, sys.implementation.cache_tag)\n"
    parts = split(IRIS.name)

    result, _ = slots.get(level).run(make_job(code, parts=parts), parts=parts)

    assert str((sys.version, sys.implementation.cache_tag)) in result.sentence
