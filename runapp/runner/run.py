"""One run: fork, read, meter, limit, and a verdict that rests on what was seen from outside."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from runapp.runner.contract import FrameKind, Limits, Outcome, RunResult
from runapp.runner.keeper.handle import Exited, KeeperFailed, KeeperProcess
from runapp.runner.metering.meter import Meter, Sample
from runapp.runner.metering.process_tree import ProcessTree
from runapp.runner.output import Output
from runapp.runner.path_hiding import hide_paths
from runapp.runner.reports import Failure, ReportError
from runapp.runner.stages import Stages

SETUP_SECONDS = 30.0
# How long a child may stay once it cannot report any more: it is about to end.
LEAVE_SECONDS = 2.0
# How long the end of the tree may take after the end of its first process, or after a kill.
EXIT_SECONDS = 8.0
# The answer is at hand: whoever asks a database does so in a thread of its own.
STOP_CHECK_SECONDS = 0.25
FIRST_SAMPLE_SECONDS = 0.01
LONGEST_SAMPLE_SECONDS = 0.05
_READ_BYTES = 2**18
# More than a pipe or a socket holds, unless it was made larger to keep us reading.
_MOST_LEFTOVER_READS = 64
_KEEPER_LOST = "the keeper of the run died or hung"
# Signals that only the code itself raises.
_OWN_SIGNALS = (signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGBUS, signal.SIGILL)

ShouldStop = Callable[[], bool]


@dataclass(frozen=True)
class Request:
    """What a keeper is asked for, and under which limits."""

    action: str
    packed: bytes
    inputs: Mapping[str, BinaryIO]
    scratch: str
    limits: Limits


class Run:
    """One run from the fork to the verdict.

    Parameters
    ----------
    keeper : KeeperProcess
        Ready, and serving nothing else.
    request : Request
        What to run.
    stages : Stages
        What the run's reports are given to.
    should_stop : callable
        Asked several times a second; true ends the run.
    stack : ExitStack
        Closes what the run has opened.

    Raises
    ------
    KeeperFailed
        When the keeper does not fork.
    """

    def __init__(
        self,
        *,
        keeper: KeeperProcess,
        request: Request,
        stages: Stages,
        should_stop: ShouldStop,
        stack: contextlib.ExitStack,
    ) -> None:
        self._keeper = keeper
        self._stages = stages
        self._limits = request.limits
        self._scratch = request.scratch
        self._should_stop = should_stop
        self._output = Output(max_bytes=request.limits.output_bytes)
        self._exited: Exited | None = None
        self._kill_reason: tuple[Outcome, str] | None = None
        self._selector = stack.enter_context(selectors.DefaultSelector())
        self._fork(request, stack)
        self._meter = Meter(
            tree=self._tree, group=self._child.group, memory_bytes=request.limits.memory_bytes
        )
        stages.attach(meter=self._meter, give_leave=self._give_leave)
        self._watch()

    def _fork(self, request: Request, stack: contextlib.ExitStack) -> None:
        """Let the keeper fork the child and give it its ends of everything."""
        with contextlib.ExitStack() as theirs:
            self._channel, their_channel = socket.socketpair()
            stack.enter_context(self._channel)
            theirs.enter_context(their_channel)
            self._log, their_log = os.pipe()
            stack.callback(os.close, self._log)
            theirs.callback(os.close, their_log)
            job = theirs.enter_context(_make_anonymous_file(request.packed))
            inputs = {name: self._keeper.open_input(file) for name, file in request.inputs.items()}
            for descriptor in inputs.values():
                theirs.callback(os.close, descriptor)
            child = self._keeper.start(
                action=request.action,
                scratch=request.scratch,
                descriptors={
                    **inputs,
                    "job": job,
                    "channel": their_channel.fileno(),
                    "log": their_log,
                },
                limits=request.limits,
            )
        stack.callback(self._keeper.release, child)
        self._child = child
        self._tree = ProcessTree(
            keeper=self._keeper.pid, pid=child.pid, is_alone=self._keeper.seal.level.has_namespaces
        )

    def _watch(self) -> None:
        os.set_blocking(self._log, False)
        self._channel.setblocking(False)
        for source, read in (
            (self._log, self._read_log),
            (self._channel, self._read_channel),
            (self._keeper, self._read_exit),
            (self._child.pidfd, self._note_death),
        ):
            self._selector.register(source, selectors.EVENT_READ, read)
        now = time.monotonic()
        self._next_stop_check = now + STOP_CHECK_SECONDS
        self._sample_seconds = FIRST_SAMPLE_SECONDS
        self._next_sample = now + self._sample_seconds
        self._setup_by = now + SETUP_SECONDS
        self._leave_by: float | None = None
        self._exit_by: float | None = None
        self._is_dead = False

    def follow(self) -> None:
        """Read, meter and limit until the report is complete or the whole tree is dead.

        After a complete report the tree is killed, and nobody waits for the kernel to take it
        down: what is to be known of it is known.

        Raises
        ------
        KeeperFailed
            When the keeper does not tell of the end.
        """
        while not self._has_ended():
            timeout = max(min(self._next_sample, self._next_stop_check) - time.monotonic(), 0)
            for key, _ in self._selector.select(timeout):
                key.data()
            if not self._has_ended():
                self._check(time.monotonic())
        if self._stages.is_over:
            self._kill()
        # Every writer is dead or has said all: what is left in the buffers is all that counts.
        self._read_leftovers()
        if self._exited is not None:
            self._stages.end(cpu_seconds=self._exited.cpu_seconds)

    def _has_ended(self) -> bool:
        return self._stages.is_over or self._exited is not None

    def abandon(self) -> None:
        """Kill the run without its keeper, which is dead or of no use any more."""
        self._kill()
        self._child.group.kill()
        self._tree.kill()
        self._read_leftovers()

    def give_verdict(self) -> RunResult:
        """Say how the run ended; where causes overlap, the first of this order counts.

        1. A setup that failed; one for which the memory limit is too small is not ours.
        2. The caller's wish to stop it.
        3. What the kernel killed at the memory limit, by the group's own count.
        4. What the run was killed for, by another limit or a forged report.
        5. A complete report, however the process ended after it.
        6. The failure that the child told of.
        7. A keeper that failed.
        8. The way in which the process ended.
        """
        outcome, sentence, traceback = self._judge()
        output = hide_paths(self._output.read(), scratch=self._scratch)
        is_before_fit = (
            self._stages.failure is not None
            and outcome is self._stages.failure.outcome
            and self._stages.failure.is_before_fit
        )
        return RunResult(outcome, sentence, traceback, output, self._stages.usage, is_before_fit)

    def _judge(self) -> tuple[Outcome, str, str]:
        if not self._stages.has_started:
            return (*self._judge_setup(), "")
        if self._meter.is_out_of_memory() and not self._is_stopped():
            return Outcome.MEMORY_LIMIT, self._describe_memory(), ""
        if self._kill_reason is not None:
            return (*self._kill_reason, "")
        if self._stages.is_complete:
            return Outcome.TESTED, "", ""
        if self._stages.failure is not None:
            return self._judge_failure(self._stages.failure)
        if self._exited is None:
            return Outcome.LOST, _KEEPER_LOST, ""
        return (*self._judge_exit(self._exited.status), "")

    def _is_stopped(self) -> bool:
        return self._kill_reason is not None and self._kill_reason[0] is Outcome.STOPPED

    def _judge_setup(self) -> tuple[Outcome, str]:
        # No participant byte has run: whatever it was is ours, unless the job is too large itself.
        if self._is_stopped():
            return Outcome.STOPPED, "stopped"
        if self._meter.is_out_of_memory():
            return Outcome.MEMORY_LIMIT, self._describe_memory()
        if self._kill_reason is not None:
            return Outcome.SETUP_FAILED, self._kill_reason[1]
        if self._exited is None:
            return Outcome.NOT_STARTED, _KEEPER_LOST
        status = self._exited.status
        outcome = Outcome.NOT_STARTED if status == -signal.SIGKILL else Outcome.SETUP_FAILED
        return outcome, f"the child ended with status {status} at its setup"

    def _judge_failure(self, failure: Failure) -> tuple[Outcome, str, str]:
        sentence = failure.sentence
        if failure.outcome is Outcome.MEMORY_LIMIT:
            sentence = (
                f"memory limit: asked for more than the {self._limits.memory_mb:g} MB allowed "
                f"({sentence})"
            )
        elif n_refused := self._meter.count_refused_forks():
            sentence = (
                f"{sentence} (process limit: {n_refused} processes or threads more than the "
                f"{self._limits.processes} allowed were refused)"
            )
        return failure.outcome, sentence, failure.traceback

    def _judge_exit(self, status: int) -> tuple[Outcome, str]:
        if status == -signal.SIGKILL:
            cpu_seconds = self._meter.read_cpu_seconds()
            if cpu_seconds > self._limits.cpu_seconds:
                return Outcome.CPU_LIMIT, self._describe_cpu(cpu_seconds)
            return Outcome.LOST, "the run was killed from outside"
        if status < 0:
            outcome = Outcome.KILLED if -status in _OWN_SIGNALS else Outcome.SUBMISSION_ERROR
            return outcome, f"ended by the signal {_name_signal(-status)}"
        return Outcome.SUBMISSION_ERROR, f"left without a report, with exit status {status}"

    def _give_leave(self, *inputs: BinaryIO) -> None:
        descriptors = [self._keeper.open_input(file) for file in inputs]
        with contextlib.suppress(OSError):  # it may be gone, or have closed its end
            socket.send_fds(self._channel, [b"."], descriptors)
        for descriptor in descriptors:
            os.close(descriptor)

    def _read_leftovers(self) -> None:
        for source, read in ((self._channel, self._read_channel), (self._log, self._read_log)):
            for _ in range(_MOST_LEFTOVER_READS):
                if source not in self._selector.get_map() or not read():
                    break

    def _read_log(self) -> bool:
        try:
            piece = os.read(self._log, _READ_BYTES)
        except BlockingIOError:
            return False
        if not piece:
            self._selector.unregister(self._log)
            return False
        self._output.feed(piece)
        return True

    def _read_channel(self) -> bool:
        try:
            piece = self._channel.recv(_READ_BYTES)
        except BlockingIOError:
            return False
        except ConnectionError:
            piece = b""
        if not piece:
            self._stop_reading_channel()
            if self._leave_by is None:
                self._leave_by = time.monotonic() + LEAVE_SECONDS
            return False
        try:
            for kind, payload in self._stages.reader.feed(piece):
                self._check_memory()
                self._stages.take(kind, payload)
                if kind is FrameKind.STARTED:
                    # Not sooner: making the next child would hold up the start of this run.
                    self._keeper.prepare()
                if self._stages.is_over:
                    return False  # whatever comes after the end is not read
        except ReportError as error:
            self._kill(error.outcome, error.sentence)
            return False
        return True

    def _read_exit(self) -> None:
        self._exited = self._keeper.read_exit(self._child)

    def _note_death(self) -> None:
        self._selector.unregister(self._child.pidfd)
        self._is_dead = True
        self._expect_exit()

    def _stop_reading_channel(self) -> None:
        if self._channel in self._selector.get_map():
            self._selector.unregister(self._channel)

    def _expect_exit(self) -> None:
        if self._exit_by is None:
            self._exit_by = time.monotonic() + EXIT_SECONDS

    def _check(self, now: float) -> None:
        if self._exit_by is not None and now > self._exit_by:
            raise KeeperFailed("the keeper did not tell the end of a run in time")
        # It is the caller's heartbeat too, so it is asked even when its answer comes too late.
        is_unwanted = self._asks_to_stop(now)
        if self._is_dead:
            return
        if self._leave_by is not None and now > self._leave_by:
            self._kill(Outcome.SUBMISSION_ERROR, "closed the channel that it reports on")
        if is_unwanted:
            self._kill(Outcome.STOPPED, "stopped")
        self._check_limits(now)

    def _asks_to_stop(self, now: float) -> bool:
        if now < self._next_stop_check:
            return False
        self._next_stop_check = now + STOP_CHECK_SECONDS
        return self._should_stop()

    def _check_limits(self, now: float) -> None:
        if now < self._next_sample:
            return
        if self._stages.has_started:
            self._compare(self._meter.sample(), seconds=now - self._stages.started_at)
        elif now > self._setup_by:
            self._kill(Outcome.SETUP_FAILED, "the child did not begin in time")
        # A look at many processes takes long; it is not to take more than a tenth of our time.
        looked = time.monotonic()
        self._sample_seconds = min(self._sample_seconds * 1.5, LONGEST_SAMPLE_SECONDS)
        self._next_sample = looked + max(self._sample_seconds, 10 * (looked - now))

    def _check_memory(self) -> None:
        """Refuse to hear more of a run of which the kernel has killed something.

        Raises
        ------
        ReportError
            When it has.
        """
        if self._stages.has_started and self._meter.is_out_of_memory():
            raise ReportError(Outcome.MEMORY_LIMIT, self._describe_memory())

    def _describe_memory(self) -> str:
        peak_mb = (self._meter.sample().peak_bytes or 0) / 2**20
        return f"memory limit: used {peak_mb:.0f} MB of {self._limits.memory_mb:g} MB"

    def _describe_cpu(self, cpu_seconds: float) -> str:
        return f"CPU limit: used {cpu_seconds:.1f} s of {self._limits.cpu_seconds:g} s"

    def _compare(self, sample: Sample, *, seconds: float) -> None:
        limits = self._limits
        is_over = (sample.peak_bytes or 0) > limits.memory_bytes
        if is_over or self._meter.is_out_of_memory():
            self._kill(Outcome.MEMORY_LIMIT, self._describe_memory())
        elif sample.cpu_seconds > limits.cpu_seconds:
            self._kill(Outcome.CPU_LIMIT, self._describe_cpu(sample.cpu_seconds))
        elif seconds > limits.wall_seconds:
            self._kill(
                Outcome.WALL_LIMIT,
                f"wall limit: ran for {seconds:.1f} s of {limits.wall_seconds:g} s",
            )
        elif sample.n_processes > limits.processes:
            self._kill(
                Outcome.SUBMISSION_ERROR,
                f"process limit: {sample.n_processes} processes of {limits.processes}",
            )

    def _kill(self, outcome: Outcome | None = None, sentence: str = "") -> None:
        """Kill the first process; the keeper sees it die and kills the rest of the tree."""
        if outcome is not None and self._kill_reason is None:
            self._kill_reason = (outcome, sentence)
            if self._stages.has_started:
                self._meter.sample_closely()  # the last look: the dead tell nothing
        self._stop_reading_channel()
        self._expect_exit()
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._child.pidfd, signal.SIGKILL)


def _name_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)  # one of the nameless real-time signals


@contextlib.contextmanager
def _make_anonymous_file(content: bytes) -> Iterator[int]:
    # memfd_create(2): large jobs cannot block on a full socket, and nothing lies on a disk.
    descriptor = os.memfd_create("job", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        yield descriptor
