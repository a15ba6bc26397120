"""Stand-ins for what would start processes."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from runapp.runner.child import splitting
from runapp.runner.contract import (
    Confinement,
    FoldJob,
    FrameKind,
    Outcome,
    RunResult,
    SplitJob,
    StageReport,
    Usage,
)
from runapp.runner.data import array_file, dataframes
from runapp.runner.selftest.promises import Promise

USAGE = Usage(
    train_seconds=1.5,
    validation_seconds=0.25,
    test_seconds=0.125,
    train_cpu_seconds=1.25,
    test_cpu_seconds=0.0625,
    train_peak_bytes=3 * 1024,
    test_peak_bytes=5 * 1024,
    measured_by="a stand-in",
)


class InstantSupervisor:
    """Runs what the real one would, without a process: the split here, a fold by pretence.

    Parameters
    ----------
    outcome : Outcome
        How folds end; one that is not `TESTED` ends them after the fit.
    is_before_fit : bool
        Whether folds that fail tell that `fit` had not been called.
    at_stage : callable
        Told of every stage that a fold has passed, once the worker knows of it.
    """

    def __init__(
        self,
        *,
        outcome: Outcome = Outcome.TESTED,
        is_before_fit: bool = False,
        at_stage: Callable[[FrameKind], None] = lambda kind: None,
    ) -> None:
        self.outcome = outcome
        self.is_before_fit = is_before_fit
        self.at_stage = at_stage
        self.jobs: list[FoldJob] = []
        self.keeper_pid = 4711
        self.n_keepers = {"first": 1, "lost": 0, "worn": 0}

    def run_split(
        self,
        *,
        job: SplitJob,
        files: Mapping[str, Path],
        sinks: Mapping[FrameKind, Callable[[bytes], None]],
        max_part_bytes: int,
        should_stop: Callable[[], bool],
    ) -> RunResult:
        try:
            parts = splitting.split_csv(
                path=files[job.files[0]],
                target_column=job.target_column,
                held_out_test=job.held_out_test or 0.0,
                random_state=job.random_state or 0,
                is_classification=job.is_classification,
            )
        except splitting.SplitError as error:
            return make_result(Outcome.SUBMISSION_ERROR, sentence=str(error))
        dataframes.write_frame(parts.X_train, _Sink(sinks[FrameKind.X_TRAIN]))
        array_file.write_column(parts.y_train, _Sink(sinks[FrameKind.Y_TRAIN]))
        dataframes.write_frame(parts.X_test, _Sink(sinks[FrameKind.X_TEST]))
        array_file.write_column(parts.y_test, _Sink(sinks[FrameKind.Y_TEST]))
        return make_result(Outcome.TESTED)

    def run_fold(
        self,
        *,
        job: FoldJob,
        x_train: BinaryIO,
        x_test: BinaryIO,
        on_stage: Callable[[StageReport], None],
        should_stop: Callable[[], bool],
        on_start: Callable[[], None],
    ) -> RunResult:
        self.jobs.append(job)
        on_start()
        stages = (
            (FrameKind.FITTED, None),
            (FrameKind.TRAIN_PREDICTIONS, make_predictions(job.n_train, job.n_classes)),
            (FrameKind.TEST_PREDICTIONS, make_predictions(job.n_test, job.n_classes)),
        )
        for kind, predictions in stages:
            on_stage(StageReport(kind, USAGE, predictions))
            self.at_stage(kind)
            if should_stop():
                return make_result(Outcome.STOPPED)
            if self.outcome is not Outcome.TESTED:
                failed = make_result(self.outcome, sentence="it went wrong", output="printed\n")
                return replace(failed, is_before_fit=self.is_before_fit)
        return make_result(Outcome.TESTED, output="printed\n")


class ProbedSupervisor:
    """Tells of probing runs that every promise is kept, but for those named.

    Parameters
    ----------
    broken : collection of Promise
        What the probes tell to have got away with.
    """

    def __init__(self, *, broken: Collection[Promise] = ()) -> None:
        self.broken = broken
        self.roles: list[str] = []
        self.is_closed = False

    def run_fold(
        self,
        *,
        job: FoldJob,
        x_train: BinaryIO,
        x_test: BinaryIO,
        on_stage: Callable[[StageReport], None],
        should_stop: Callable[[], bool],
    ) -> RunResult:
        role = json.loads(job.files["bait.json"])["role"]
        self.roles.append(role)
        if should_stop():
            return make_result(Outcome.STOPPED, sentence="stopped")
        output = "".join(self._tell(promise) for promise in Promise)
        return make_result(self._end(role), sentence=f"the end of {role}", output=output)

    def describe(self) -> Confinement:
        mechanisms = {Promise.NETWORK.value: "a stand-in for walls"}
        return Confinement("pretence", mechanisms, "a stand-in", ("it is a test",))

    def close(self) -> None:
        self.is_closed = True

    def _tell(self, promise: Promise) -> str:
        result = "done" if promise in self.broken else "refused"
        attempt = {"promise": promise, "name": "an attempt", "result": result, "detail": "a word"}
        return f"{json.dumps(attempt)}\n{json.dumps({'promise': promise, 'n_attempts': 1})}\n"

    def _end(self, role: str) -> Outcome:
        if role in ("aftermath", "child_memory") and Promise.MEMORY not in self.broken:
            return Outcome.MEMORY_LIMIT
        if role == "cpu" and Promise.CPU not in self.broken:
            return Outcome.CPU_LIMIT
        return Outcome.TESTED


class _Sink:
    """The file that a part is written to."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write

    def write(self, piece: bytes | memoryview) -> int:
        self._write(bytes(piece))
        return len(piece)


def make_result(outcome: Outcome, *, sentence: str = "", output: str = "") -> RunResult:
    return RunResult(outcome, sentence, "", output, USAGE)


def make_predictions(n_rows: int, n_classes: int | None) -> np.ndarray:
    """Return predictions that no two cells of which are equal."""
    shape = (n_rows,) if n_classes is None else (n_rows, n_classes)
    return np.arange(np.prod(shape), dtype=float).reshape(shape) / 7
