"""The order in which a run's frames must come, and what is taken down at each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from runapp.runner.contract import (
    STARTED_PAYLOAD,
    FoldJob,
    FrameKind,
    Outcome,
    StageReport,
    Usage,
)
from runapp.runner.metering.meter import Meter, Setup
from runapp.runner.reports import (
    Failure,
    FrameReader,
    ReportError,
    Sink,
    check_predictions,
    read_failure,
)

OnStage = Callable[[StageReport], None]
OnStart = Callable[[], None]
# Lets the child go on, with the files that its next stage needs.
GiveLeave = Callable[..., None]


class Stages:
    """What a run has reported so far.

    Attributes
    ----------
    reader : FrameReader
        Cuts what comes from the child into frames for `take`.
    usage : Usage
        What was measured so far.
    failure : Failure or None
        The failure that the child told of.
    """

    order: tuple[FrameKind, ...]
    reader: FrameReader
    meter: Meter

    def __init__(self) -> None:
        self.usage = Usage()
        self.failure: Failure | None = None
        self.started_at = 0.0
        self._passed: list[FrameKind] = []

    def attach(self, *, meter: Meter, give_leave: GiveLeave) -> None:
        """Learn how to measure the run and how to let it go on."""
        self.meter = meter
        self._give_leave = give_leave

    @property
    def has_started(self) -> bool:
        return FrameKind.STARTED in self._passed

    @property
    def is_complete(self) -> bool:
        return len(self._passed) == len(self.order)

    @property
    def is_over(self) -> bool:
        """Whether the child has nothing left to tell."""
        return self.is_complete or self.failure is not None

    def take(self, kind: FrameKind, payload: bytes) -> None:
        """Accept a frame if it is the next one.

        Raises
        ------
        ReportError
            When it is not, or when it holds what the protocol does not allow.
        """
        if kind is FrameKind.FAILED and self.has_started:
            self.failure = read_failure(payload)
            self._take_failed()  # the child waits until it is killed
            return
        if kind is not self.order[len(self._passed)]:
            raise ReportError(Outcome.SUBMISSION_ERROR, "the report came out of order")
        if kind is FrameKind.STARTED:
            self._start(payload)
        else:
            self._pass(kind, payload)
        self._passed.append(kind)

    def end(self, *, cpu_seconds: float) -> None:
        """Complete the usage of a run that died, with the total that the keeper counted."""

    def _take_failed(self) -> None:
        """Take down what was used until a failure that was reported."""

    def _start(self, payload: bytes) -> None:
        # Our code's last word: it is trusted, and the time of participant code begins.
        self.meter.start(setup=Setup(*STARTED_PAYLOAD.unpack(payload)))
        self.started_at = time.monotonic()
        self._give_leave()

    def _pass(self, kind: FrameKind, payload: bytes) -> None:
        raise NotImplementedError


class FoldStages(Stages):
    """Fit, predictions of the train part, predictions of the test part.

    Parameters
    ----------
    job : FoldJob
        What was asked for.
    x_test : file
        The stored X of the test part, handed over once the train part is predicted.
    on_stage : callable
        Told of every stage while the child goes on with the next.
    on_start : callable
        Told when the submission's code has begun to run.
    """

    order = (
        FrameKind.STARTED,
        FrameKind.FITTED,
        FrameKind.TRAIN_PREDICTIONS,
        FrameKind.TEST_PREDICTIONS,
    )

    def __init__(
        self, *, job: FoldJob, x_test: BinaryIO, on_stage: OnStage, on_start: OnStart
    ) -> None:
        super().__init__()
        self.reader = FrameReader(max_predictions_bytes=job.max_predictions_bytes)
        self._job = job
        self._x_test = x_test
        self._on_stage = on_stage
        self._on_start = on_start
        self._stage_started_at = 0.0
        self._cpu_before_test = 0.0

    def end(self, *, cpu_seconds: float) -> None:
        if self.has_started and FrameKind.FITTED not in self._passed:
            # It died while training: what it used until then is the training's.
            self._take_training(
                seconds=self._take_seconds(),
                cpu_seconds=self.meter.finish_cpu_seconds(reaped_seconds=cpu_seconds),
                peak_bytes=self.meter.sample().peak_bytes,
            )

    def _take_failed(self) -> None:
        sample = self.meter.sample_closely()
        if FrameKind.FITTED not in self._passed:
            self._take_training(
                seconds=self._take_seconds(),
                cpu_seconds=sample.cpu_seconds,
                peak_bytes=sample.peak_bytes,
            )

    def _start(self, payload: bytes) -> None:
        super()._start(payload)
        self._stage_started_at = self.started_at
        self._on_start()

    def _pass(self, kind: FrameKind, payload: bytes) -> None:
        predictions = None
        if kind is FrameKind.FITTED:
            self._pass_fit()
        elif kind is FrameKind.TRAIN_PREDICTIONS:
            predictions = self._pass_train_part(payload)
        else:
            predictions = self._pass_test_part(payload)
        self._on_stage(StageReport(kind=kind, usage=self.usage, predictions=predictions))

    def _pass_fit(self) -> None:
        seconds = self._take_seconds()
        sample = self.meter.sample_closely()
        self._take_training(
            seconds=seconds, cpu_seconds=sample.cpu_seconds, peak_bytes=sample.peak_bytes
        )
        self._go_on()

    def _pass_train_part(self, payload: bytes) -> NDArray[np.float64]:
        seconds = self._take_seconds()
        predictions = check_predictions(
            payload, job=self._job, n_rows=self._job.n_train, part="train"
        )
        self.usage = replace(self.usage, validation_seconds=seconds)
        self._cpu_before_test = self.meter.read_cpu_seconds()
        self.meter.start_stage()
        self._go_on(self._x_test)
        return predictions

    def _pass_test_part(self, payload: bytes) -> NDArray[np.float64]:
        seconds = self._take_seconds()
        predictions = check_predictions(
            payload, job=self._job, n_rows=self._job.n_test, part="test"
        )
        sample = self.meter.sample()  # the child waits until it is killed
        self.usage = replace(
            self.usage,
            test_seconds=seconds,
            test_cpu_seconds=max(sample.cpu_seconds - self._cpu_before_test, 0.0),
            test_peak_bytes=sample.peak_bytes,
        )
        return predictions

    def _take_training(self, *, seconds: float, cpu_seconds: float, peak_bytes: int | None) -> None:
        self.usage = replace(
            self.usage,
            train_seconds=seconds,
            train_cpu_seconds=cpu_seconds,
            train_peak_bytes=peak_bytes,
            measured_by=self.meter.measured_by,
        )

    def _take_seconds(self) -> float:
        return time.monotonic() - self._stage_started_at

    def _go_on(self, *inputs: BinaryIO) -> None:
        self._stage_started_at = time.monotonic()
        self._give_leave(*inputs)


class SplitStages(Stages):
    """The four parts, which go to their sinks; there is nothing to measure.

    Parameters
    ----------
    sinks : mapping of FrameKind to callable
        Where the parts are written as they come.
    max_part_bytes : int
        The cap on one part.
    """

    order = (
        FrameKind.STARTED,
        FrameKind.X_TRAIN,
        FrameKind.Y_TRAIN,
        FrameKind.X_TEST,
        FrameKind.Y_TEST,
        FrameKind.SPLIT,
    )

    def __init__(self, *, sinks: Mapping[FrameKind, Sink], max_part_bytes: int) -> None:
        super().__init__()
        self.reader = FrameReader(
            max_predictions_bytes=0, sinks=sinks, max_sink_bytes=max_part_bytes
        )

    def _pass(self, kind: FrameKind, payload: bytes) -> None:
        pass
