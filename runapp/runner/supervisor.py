"""Runs untrusted code and tells what happened; the worker's side of the border.

A supervisor owns one keeper. For each run it makes a scratch folder, lets the keeper fork a
child, reads the child's frames and output, meters and limits it, and in the end gives a verdict
that rests on what was seen from outside.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from runapp.runner.contract import (
    DATA_FOLDER,
    STARTED_PAYLOAD,
    FoldJob,
    FrameKind,
    Limits,
    Outcome,
    RunResult,
    SplitJob,
    StageReport,
    Usage,
)
from runapp.runner.keepers import Exited, Forked, KeeperFailed, KeeperProcess
from runapp.runner.meter import MEASURED_BY, Meter
from runapp.runner.output import Output
from runapp.runner.reports import (
    Failure,
    FrameReader,
    ReportError,
    Sink,
    check_predictions,
    read_failure,
)

SETUP_SECONDS = 30.0
STOP_CHECK_SECONDS = 1.0
FIRST_SAMPLE_SECONDS = 0.01
LONGEST_SAMPLE_SECONDS = 0.05
_READ_BYTES = 2**18
# Signals that only the code itself raises.
_OWN_SIGNALS = (signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGBUS, signal.SIGILL)

OnStage = Callable[[StageReport], None]
ShouldStop = Callable[[], bool]


class Supervisor:
    """Runs folds and splits, one at a time, in fresh children of one warm keeper.

    Parameters
    ----------
    scratch_root : Path
        The folder in which each run gets one of its own, removed after it.
    """

    def __init__(self, *, scratch_root: Path) -> None:
        self._scratch_root = scratch_root
        self._keeper: KeeperProcess | None = None

    def warm_up(self) -> None:
        """Start the keeper, without waiting for its imports."""
        if self._keeper is None:
            self._keeper = KeeperProcess()

    def close(self) -> None:
        """End the keeper and whatever it runs."""
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None

    def run_fold(
        self,
        *,
        job: FoldJob,
        x_train: BinaryIO,
        x_test: BinaryIO,
        on_stage: OnStage,
        should_stop: ShouldStop,
    ) -> RunResult:
        """Train and test one fold.

        Parameters
        ----------
        job : FoldJob
            What to run, on what, under which limits.
        x_train, x_test : file
            The stored X of both parts; the second is handed over only when the predictions of
            the first have arrived.
        on_stage : callable
            Told of every stage passed, with the usage so far and the predictions made.
        should_stop : callable
            Asked about once a second; true ends the run.

        Returns
        -------
        RunResult
            `outcome.is_ours` tells a fault of ours, to be tried again, from one of theirs.
        """
        with _make_scratch(self._scratch_root) as scratch:
            stages = _FoldStages(job=job, x_test=x_test, on_stage=on_stage)
            return self._run(
                stages=stages,
                action="fold",
                packed=job.pack(),
                inputs={"x_train": x_train.fileno()},
                scratch=scratch,
                limits=job.limits,
                should_stop=should_stop,
            )

    def run_split(
        self,
        *,
        job: SplitJob,
        files: Mapping[str, Path],
        sinks: Mapping[FrameKind, Sink],
        max_part_bytes: int,
        should_stop: ShouldStop,
    ) -> RunResult:
        """Split a dataset.

        Parameters
        ----------
        job : SplitJob
            What to split, and how.
        files : mapping of str to Path
            Name and place of the dataset's files; the child gets copies.
        sinks : mapping of FrameKind to callable
            Where the four parts are written as they come.
        max_part_bytes : int
            The cap on one part.
        should_stop : callable
            Asked about once a second; true ends the run.

        Returns
        -------
        RunResult
            `tested` when all four parts are complete.
        """
        with _make_scratch(self._scratch_root) as scratch:
            for name, source in files.items():
                target = scratch / DATA_FOLDER / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
            stages = _SplitStages(sinks=sinks, max_part_bytes=max_part_bytes)
            return self._run(
                stages=stages,
                action="split",
                packed=job.pack(),
                inputs={},
                scratch=scratch,
                limits=job.limits,
                should_stop=should_stop,
            )

    def _run(
        self,
        *,
        stages: _Stages,
        action: str,
        packed: bytes,
        inputs: Mapping[str, int],
        scratch: Path,
        limits: Limits,
        should_stop: ShouldStop,
    ) -> RunResult:
        self.warm_up()
        assert self._keeper is not None
        try:
            with contextlib.ExitStack() as stack:
                run = _Run(self._keeper, stages, limits, should_stop, stack)
                run.fork(action=action, packed=packed, inputs=inputs, scratch=scratch)
                run.follow()
                return run.give_verdict()
        except KeeperFailed as error:
            self.close()
            outcome = Outcome.LOST if stages.has_started else Outcome.NOT_STARTED
            return RunResult(outcome, str(error), "", "", stages.usage)
        except BaseException:
            # The caller's own callbacks failed: end the run with its keeper rather than leave it.
            self.close()
            raise


class _Stages:
    """The order in which a run's frames must come, and what was measured at each."""

    order: tuple[FrameKind, ...]
    reader: FrameReader

    def __init__(self) -> None:
        self.usage = Usage()
        self.failure: Failure | None = None
        self.passed: list[FrameKind] = []

    @property
    def has_started(self) -> bool:
        return FrameKind.STARTED in self.passed

    @property
    def is_complete(self) -> bool:
        return len(self.passed) == len(self.order)

    def take(self, kind: FrameKind, payload: bytes, run: _Run) -> None:
        """Accept a frame if it is the next one."""
        if self.failure is not None or self.is_complete:
            raise ReportError(Outcome.SUBMISSION_ERROR, "something was reported after the end")
        if kind is FrameKind.FAILED and self.has_started:
            self.failure = read_failure(payload)
            return
        if kind is not self.order[len(self.passed)]:
            raise ReportError(Outcome.SUBMISSION_ERROR, "the report came out of order")
        self.passed.append(kind)
        if kind is FrameKind.STARTED:
            (baseline_bytes,) = STARTED_PAYLOAD.unpack(payload)
            run.start(baseline_bytes=baseline_bytes)
        else:
            self.pass_stage(kind, payload, run)

    def pass_stage(self, kind: FrameKind, payload: bytes, run: _Run) -> None:
        raise NotImplementedError

    def close(self, run: _Run, cpu_seconds: float) -> None:
        """Complete the usage with the total that the keeper counted."""


class _FoldStages(_Stages):
    order = (
        FrameKind.STARTED,
        FrameKind.FITTED,
        FrameKind.TRAIN_PREDICTIONS,
        FrameKind.TEST_PREDICTIONS,
    )

    def __init__(self, *, job: FoldJob, x_test: BinaryIO, on_stage: OnStage) -> None:
        super().__init__()
        self.reader = FrameReader(max_predictions_bytes=job.max_predictions_bytes)
        self._job = job
        self._x_test = x_test
        self._on_stage = on_stage
        self._cpu_before_test = 0.0

    def pass_stage(self, kind: FrameKind, payload: bytes, run: _Run) -> None:
        seconds = run.take_seconds()
        cpu_seconds = run.meter.read_cpu_seconds()
        predictions = None
        if kind is FrameKind.FITTED:
            self.usage = replace(
                self.usage,
                train_seconds=seconds,
                train_cpu_seconds=cpu_seconds,
                train_peak_bytes=run.meter.take_peak(),
                measured_by=MEASURED_BY,
            )
            run.give_leave()
        elif kind is FrameKind.TRAIN_PREDICTIONS:
            predictions = check_predictions(
                payload, job=self._job, n_rows=self._job.n_train, part="train"
            )
            self.usage = replace(self.usage, validation_seconds=seconds)
            self._cpu_before_test = cpu_seconds
            run.meter.start_stage()
            run.give_leave(self._x_test.fileno())
        else:
            predictions = check_predictions(
                payload, job=self._job, n_rows=self._job.n_test, part="test"
            )
            self.usage = replace(
                self.usage, test_seconds=seconds, test_peak_bytes=run.meter.take_peak()
            )
            run.give_leave()
        self._on_stage(StageReport(kind=kind, usage=self.usage, predictions=predictions))

    def close(self, run: _Run, cpu_seconds: float) -> None:
        # The total is exact; the last stage gets what the marks have not given to the others.
        if FrameKind.TEST_PREDICTIONS in self.passed:
            test_cpu_seconds = max(cpu_seconds - self._cpu_before_test, 0.0)
            self.usage = replace(self.usage, test_cpu_seconds=test_cpu_seconds)
        elif FrameKind.FITTED not in self.passed and self.has_started:
            # It ended while training: what it used until then is the training's.
            self.usage = replace(
                self.usage,
                train_seconds=run.take_seconds(),
                train_cpu_seconds=cpu_seconds,
                train_peak_bytes=run.meter.sample_memory(),
                measured_by=MEASURED_BY,
            )


class _SplitStages(_Stages):
    parts = (FrameKind.X_TRAIN, FrameKind.Y_TRAIN, FrameKind.X_TEST, FrameKind.Y_TEST)

    def __init__(self, *, sinks: Mapping[FrameKind, Sink], max_part_bytes: int) -> None:
        super().__init__()
        self.order = (FrameKind.STARTED, *self.parts, FrameKind.SPLIT)
        self.reader = FrameReader(
            max_predictions_bytes=0, sinks=sinks, max_sink_bytes=max_part_bytes
        )

    def pass_stage(self, kind: FrameKind, payload: bytes, run: _Run) -> None:
        """The parts have gone to their sinks; there is nothing to measure."""


class _Run:
    """One run from the fork to the verdict."""

    meter: Meter

    def __init__(
        self,
        keeper: KeeperProcess,
        stages: _Stages,
        limits: Limits,
        should_stop: ShouldStop,
        stack: contextlib.ExitStack,
    ) -> None:
        self._keeper = keeper
        self._stages = stages
        self._limits = limits
        self._should_stop = should_stop
        self._stack = stack
        self._output = Output(max_bytes=limits.output_bytes)
        self._selector = stack.enter_context(selectors.DefaultSelector())
        self._channel, self._their_channel = map(stack.enter_context, socket.socketpair())
        self._log, self._their_log = os.pipe()
        stack.callback(os.close, self._log)
        self._exited: Exited | None = None
        self._kill_reason: tuple[Outcome, str] | None = None
        self._stage_started_at = 0.0

    def fork(self, *, action: str, packed: bytes, inputs: Mapping[str, int], scratch: Path) -> None:
        """Let the keeper fork the child and give it its ends of everything."""
        try:
            with _make_anonymous_file(packed) as job_fd:
                descriptors = {
                    "job": job_fd,
                    **inputs,
                    "channel": self._their_channel.fileno(),
                    "log": self._their_log,
                }
                self._forked: Forked = self._keeper.fork(
                    action=action, scratch=scratch, descriptors=descriptors
                )
        finally:
            os.close(self._their_log)
            self._their_channel.close()
        self._stack.callback(os.close, self._forked.pidfd)
        self.meter = Meter(keeper=self._keeper.pid, pid=self._forked.pid)
        now = time.monotonic()
        self._forked_at = self._started_at = now
        self._next_stop_check = now + STOP_CHECK_SECONDS
        self._sample_seconds = FIRST_SAMPLE_SECONDS
        self._next_sample = now + self._sample_seconds

    def start(self, *, baseline_bytes: int) -> None:
        """Begin to count: from here on it is participant code that runs."""
        self.meter.start(baseline_bytes=baseline_bytes)
        self._started_at = self._stage_started_at = time.monotonic()

    def take_seconds(self) -> float:
        """Return the wall time of the stage that ends now."""
        now = time.monotonic()
        return now - self._stage_started_at

    def give_leave(self, *descriptors: int) -> None:
        """Let the child go on, with the descriptors that its next stage needs."""
        self._stage_started_at = time.monotonic()
        with contextlib.suppress(OSError):  # it may be gone, or have closed its end
            socket.send_fds(self._channel, [b"."], list(descriptors))

    def follow(self) -> None:
        """Read, meter and limit until the whole tree is dead and everything it wrote is read."""
        os.set_blocking(self._log, False)
        self._channel.setblocking(False)
        self._selector.register(self._log, selectors.EVENT_READ, self._read_log)
        self._selector.register(self._channel, selectors.EVENT_READ, self._read_channel)
        self._selector.register(self._keeper, selectors.EVENT_READ, self._read_exit)
        while self._exited is None:
            timeout = max(min(self._next_sample, self._next_stop_check) - time.monotonic(), 0)
            for key, _ in self._selector.select(timeout):
                key.data()
            self._check()
        # Every writer is dead: what is left in the buffers is all that will come.
        while self._read_channel():
            pass
        while self._read_log():
            pass
        self._stages.close(self, self._exited.cpu_seconds)

    def give_verdict(self) -> RunResult:
        """Say how the run ended; where causes overlap, the first of this order counts."""
        outcome, sentence, traceback = self._judge()
        return RunResult(outcome, sentence, traceback, self._output.read(), self._stages.usage)

    def _judge(self) -> tuple[Outcome, str, str]:
        assert self._exited is not None
        status = self._exited.status
        if self._kill_reason is not None:
            return (*self._kill_reason, "")
        if not self._stages.has_started:
            return Outcome.NOT_STARTED, f"the child ended with status {status} at its setup", ""
        if self._stages.is_complete:
            return Outcome.TESTED, "", ""
        if self._stages.failure is not None:
            return self._judge_failure(self._stages.failure)
        if status == -signal.SIGKILL:
            return Outcome.LOST, "the run was killed from outside", ""
        if status < 0:
            name = signal.Signals(-status).name
            outcome = Outcome.KILLED if -status in _OWN_SIGNALS else Outcome.SUBMISSION_ERROR
            return outcome, f"ended by the signal {name}", ""
        return (
            Outcome.SUBMISSION_ERROR,
            f"left without a report, with exit status {status}",
            "",
        )

    def _judge_failure(self, failure: Failure) -> tuple[Outcome, str, str]:
        if failure.outcome is not Outcome.MEMORY_LIMIT:
            return failure.outcome, failure.sentence, failure.traceback
        sentence = (
            f"memory limit: asked for more than the {self._limits.memory_mb:g} MB allowed "
            f"({failure.sentence})"
        )
        return failure.outcome, sentence, failure.traceback

    def _read_log(self) -> bool:
        try:
            piece = os.read(self._log, _READ_BYTES)
        except BlockingIOError:
            return False
        if not piece:
            self._forget(self._log)
            return False
        self._output.feed(piece)
        return True

    def _read_channel(self) -> bool:
        if self._channel.fileno() == -1:
            return False
        try:
            piece = self._channel.recv(_READ_BYTES)
        except BlockingIOError:
            return False
        except ConnectionError:
            piece = b""
        if not piece:
            self._forget(self._channel)
            return False
        try:
            for kind, payload in self._stages.reader.feed(piece):
                self._stages.take(kind, payload, self)
        except ReportError as error:
            self._forget(self._channel)
            self._kill(error.outcome, error.sentence)
            return False
        return True

    def _read_exit(self) -> bool:
        self._exited = self._keeper.read_exit()
        return False

    def _forget(self, source: int | socket.socket) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(source)

    def _check(self) -> None:
        now = time.monotonic()
        if self._exited is not None:
            return
        if now >= self._next_stop_check:
            self._next_stop_check = now + STOP_CHECK_SECONDS
            if self._should_stop():
                self._kill(Outcome.STOPPED, "stopped")
        if now >= self._next_sample:
            self._sample_seconds = min(self._sample_seconds * 1.5, LONGEST_SAMPLE_SECONDS)
            self._next_sample = now + self._sample_seconds
            self._check_limits(now)

    def _check_limits(self, now: float) -> None:
        if not self._stages.has_started:
            if now - self._forked_at > SETUP_SECONDS:
                self._kill(Outcome.NOT_STARTED, "the child did not begin in time")
            return
        limits = self._limits
        peak_bytes = self.meter.sample_memory() or 0
        if peak_bytes > limits.memory_bytes:
            used = peak_bytes / 2**20
            self._kill(
                Outcome.MEMORY_LIMIT,
                f"memory limit: used {used:.0f} MB of {limits.memory_mb:g} MB",
            )
        cpu_seconds = self.meter.read_cpu_seconds()
        if cpu_seconds > limits.cpu_seconds:
            self._kill(
                Outcome.CPU_LIMIT,
                f"CPU limit: used {cpu_seconds:.1f} s of {limits.cpu_seconds:g} s",
            )
        if now - self._started_at > limits.wall_seconds:
            self._kill(
                Outcome.WALL_LIMIT,
                f"wall limit: ran for {now - self._started_at:.1f} s of {limits.wall_seconds:g} s",
            )

    def _kill(self, outcome: Outcome, sentence: str) -> None:
        if self._kill_reason is None:
            self._kill_reason = (outcome, sentence)
        with contextlib.suppress(ProcessLookupError):
            # The keeper sees the first process die and kills the rest of the tree.
            signal.pidfd_send_signal(self._forked.pidfd, signal.SIGKILL)


@contextlib.contextmanager
def _make_scratch(root: Path) -> Iterator[Path]:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="run-", dir=root))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def _make_anonymous_file(content: bytes) -> Iterator[int]:
    # memfd_create(2): large jobs cannot block on a full socket, and nothing lies on a disk.
    descriptor = os.memfd_create("job", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content)
        yield descriptor
    finally:
        os.close(descriptor)
