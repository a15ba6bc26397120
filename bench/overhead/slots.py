"""Contenders that are two processes which take folds in turn: bare, and the runner alone."""

from __future__ import annotations

import io
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from bench.overhead.probe import describe_all, read_probe, write_probe
from bench.overhead.work import SLOTS, Answer, Floats, Indices, Timed, Trainer, Work, split_work
from runapp.runner.contract import (
    DataForm,
    FoldJob,
    FrameKind,
    Limits,
    RunResult,
    StageReport,
    Usage,
)
from runapp.runner.data import array_file, dataframes
from runapp.runner.supervisor import Supervisor
from test_files import local

BARRIER_SECONDS = 120
N_PROBES = 5
# Far from being met: what a limit costs is its watching.
LIMITS = Limits(
    wall_seconds=600,
    cpu_seconds=600,
    memory_mb=2048,
    processes=64,
    scratch_mb=256,
    output_kb=256,
)

Train = Callable[[Indices], Answer]


@dataclass(frozen=True)
class SlotReport:
    """What one slot did and when, by the monotonic clock that all processes share."""

    started: float
    finished: float
    answers: dict[int, Answer]
    isolation: str


@dataclass(frozen=True)
class Slot:
    """Something that trains folds in this process, ready to begin."""

    train: Train
    look: Callable[[], str]


OpenSlot = Callable[[Work], AbstractContextManager[Slot]]

# Shared with the other slot; set when the process starts.
_barrier: Any = None
_next_fold: Any = None


def measure_bare(work: Work) -> Timed:
    """Train in two processes that have everything imported and do nothing else."""
    return _measure(open_bare, work)


def measure_runner(work: Work) -> Timed:
    """Train with two supervisors, each in a process of its own, as slots of a worker are."""
    return _measure(open_runner, work)


def _measure(open_slot: OpenSlot, work: Work) -> Timed:
    context = multiprocessing.get_context("spawn")
    shared = (context.Barrier(SLOTS), context.Value("q", 0))
    with ProcessPoolExecutor(
        SLOTS, mp_context=context, initializer=_share, initargs=shared
    ) as pool:
        slots = [pool.submit(_run_slot, open_slot, work) for _ in range(SLOTS)]
        reports = [slot.result() for slot in slots]
    answers = {number: one for report in reports for number, one in report.answers.items()}
    in_order = [answers[number] for number in range(len(work.folds))]
    return Timed(
        seconds=max(one.finished for one in reports) - min(one.started for one in reports),
        digests=tuple(answer.digest for answer in in_order),
        parts={name: tuple(one.parts[name] for one in in_order) for name in in_order[0].parts},
        isolation=reports[0].isolation,
    )


def _share(barrier: Any, next_fold: Any) -> None:
    global _barrier, _next_fold
    _barrier, _next_fold = barrier, next_fold


def _run_slot(open_slot: OpenSlot, work: Work) -> SlotReport:
    try:
        with open_slot(work) as slot:
            _barrier.wait(BARRIER_SECONDS)
            started = time.monotonic()
            answers = {number: slot.train(work.folds[number]) for number in _take_folds(work)}
            finished = time.monotonic()
            # The other one may still be measured.
            _barrier.wait(BARRIER_SECONDS)
            return SlotReport(started, finished, answers, slot.look())
    except BaseException:
        # The other slot need not wait for this one.
        _barrier.abort()
        raise


def _take_folds(work: Work) -> Iterator[int]:
    while True:
        with _next_fold.get_lock():
            number: int = _next_fold.value
            _next_fold.value += 1
        if number >= len(work.folds):
            return
        yield number


@contextmanager
def open_bare(work: Work) -> Iterator[Slot]:
    """Yield a slot that trains in this very process."""
    yield Slot(train=Trainer(work).train, look=lambda: "")


@contextmanager
def open_runner(work: Work) -> Iterator[Slot]:
    """Yield a slot with a supervisor and its warm keeper."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        runner = _Runner(work, Path(folder))
        try:
            runner.train(work.warm_fold)
            yield Slot(train=runner.train, look=runner.look)
        finally:
            runner.close()


class _Runner:
    """Makes jobs of folds and feeds them to a supervisor."""

    def __init__(self, work: Work, folder: Path) -> None:
        self._parts = split_work(work)
        self._code = {"classifier.py": (work.submission / "classifier.py").read_bytes()}
        self._x_train = _write_frame(self._parts.X_train, folder / "X_train")
        self._x_test = _write_frame(self._parts.X_test, folder / "X_test")
        self._supervisor = Supervisor(scratch_root=folder / "scratch")
        self._supervisor.warm_up()

    def close(self) -> None:
        self._supervisor.close()
        self._x_train.close()
        self._x_test.close()

    def train(self, train_is: Indices) -> Answer:
        """Run a fold; the named parts of its time are those that the stages mark."""
        asked = time.monotonic()
        _, reports, moments = self._run(train_is, self._code)
        seconds = time.monotonic() - asked
        parts = name_parts(reports[-1].usage, seconds=seconds, fitted=moments[0] - asked)
        return Answer(*_collect(reports), parts=parts)

    def look(self) -> str:
        """Return what folds see of their isolation."""
        code = {"classifier.py": write_probe().encode()}
        rows = np.arange(0, len(self._parts.y_train), 2)
        printed = [self._run(rows, code)[0].output for _ in range(N_PROBES)]
        return describe_all([read_probe(one) for one in printed])

    def _run(
        self, train_is: Indices, code: dict[str, bytes]
    ) -> tuple[RunResult, list[StageReport], list[float]]:
        reports: list[StageReport] = []
        moments: list[float] = []

        def keep(report: StageReport) -> None:
            moments.append(time.monotonic())
            reports.append(report)

        result = self._supervisor.run_fold(
            job=make_job(self._parts, train_is, code),
            x_train=self._x_train,
            x_test=self._x_test,
            on_stage=keep,
            should_stop=lambda: False,
        )
        if result.outcome != "tested":
            raise RuntimeError(f"{result.outcome}: {result.sentence} {result.traceback}")
        return result, reports, moments


def _collect(reports: list[StageReport]) -> tuple[Floats, Floats]:
    made = {report.kind: report.predictions for report in reports}
    train, test = made[FrameKind.TRAIN_PREDICTIONS], made[FrameKind.TEST_PREDICTIONS]
    assert train is not None
    assert test is not None
    return train, test


def name_parts(usage: Usage, *, seconds: float, fitted: float) -> dict[str, float]:
    """Name what a fold's seconds went to, by the marks of its stages.

    `fitted` is the moment when the runner told that the fold was fitted, from its beginning.
    """
    stages = (usage.train_seconds, usage.validation_seconds, usage.test_seconds)
    fit, predict_train, predict_test = (one or 0.0 for one in stages)
    return {
        "until the submission's code starts": fitted - fit,
        "load and fit": fit,
        "predict the train part": predict_train,
        "predict the test part": predict_test,
        "between the stages, and from the last one to the verdict": seconds
        - fitted
        - predict_train
        - predict_test,
    }


def make_job(parts: local.Parts, train_is: Indices, code: dict[str, bytes]) -> FoldJob:
    """Make the job of a fold as the services do."""
    labels = io.BytesIO()
    y = parts.y_train[train_is]
    array_file.write_column(y, labels)
    classes = np.unique(parts.y_train)
    return FoldJob(
        files=code,
        elements=("classifier",),
        kit_files={},
        kit_module=None,
        form=DataForm.FRAME,
        train_is=train_is,
        labels=labels.getvalue(),
        n_train=len(parts.y_train),
        n_test=len(parts.y_test),
        test_bytes=parts.X_test.to_numpy().nbytes + 2**16,
        n_classes=len(classes),
        class_columns=tuple(np.searchsorted(classes, np.unique(y)).tolist()),
        limits=LIMITS,
        max_predictions_bytes=2**24,
    )


def _write_frame(X: Any, path: Path) -> BinaryIO:
    with path.open("wb") as file:
        dataframes.write_frame(X, file)
    return path.open("rb")
