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
from pathlib import Path

from runapp.runner.contract import Limits, Outcome, RunResult
from runapp.runner.keepers import Exited, KeeperFailed, KeeperProcess
from runapp.runner.meter import Meter, Sample
from runapp.runner.output import Output
from runapp.runner.paths import hide_paths
from runapp.runner.reports import Failure, ReportError
from runapp.runner.stages import Stages
from runapp.runner.tree import ProcessTree

SETUP_SECONDS = 30.0
# How long a child may stay once it has nothing left to tell: it flushes its output and leaves.
LEAVE_SECONDS = 2.0
# How long the end of the tree may take after the end of its first process, or after a kill.
EXIT_SECONDS = 8.0
STOP_CHECK_SECONDS = 1.0
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
    inputs: Mapping[str, int]
    scratch: Path
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
        Asked about once a second; true ends the run.
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
        self._meter = Meter(tree=self._tree)
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
            forked = self._keeper.fork(
                action=request.action,
                scratch=request.scratch,
                descriptors={
                    "job": job,
                    **request.inputs,
                    "channel": their_channel.fileno(),
                    "log": their_log,
                },
            )
        self._pidfd = forked.pidfd
        stack.callback(os.close, forked.pidfd)
        self._tree = ProcessTree(keeper=self._keeper.pid, pid=forked.pid)

    def _watch(self) -> None:
        os.set_blocking(self._log, False)
        self._channel.setblocking(False)
        for source, read in (
            (self._log, self._read_log),
            (self._channel, self._read_channel),
            (self._keeper, self._read_exit),
            (self._pidfd, self._note_death),
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
        """Read, meter and limit until the whole tree is dead and everything it wrote is read.

        Raises
        ------
        KeeperFailed
            When the keeper does not tell of the end.
        """
        while self._exited is None:
            timeout = max(min(self._next_sample, self._next_stop_check) - time.monotonic(), 0)
            for key, _ in self._selector.select(timeout):
                key.data()
            if self._exited is None:
                self._check(time.monotonic())
        # Every writer is dead: what is left in the buffers is all that will come.
        self._read_leftovers()
        self._stages.end(cpu_seconds=self._exited.cpu_seconds)

    def abandon(self) -> None:
        """Kill the run without its keeper, which is dead or of no use any more."""
        self._kill()
        self._tree.kill()
        self._read_leftovers()

    def give_verdict(self) -> RunResult:
        """Say how the run ended; where causes overlap, the first of this order counts.

        1. A setup that failed.
        2. What the run was killed for, by a limit, a forged report or the caller.
        3. A complete report, however the process ended after it.
        4. The failure that the child told of.
        5. A keeper that failed.
        6. The way in which the process ended.
        """
        outcome, sentence, traceback = self._judge()
        output = hide_paths(self._output.read(), scratch=str(self._scratch))
        return RunResult(outcome, sentence, traceback, output, self._stages.usage)

    def _judge(self) -> tuple[Outcome, str, str]:
        if not self._stages.has_started:
            return (*self._judge_setup(), "")
        if self._kill_reason is not None:
            return (*self._kill_reason, "")
        if self._stages.is_complete:
            return Outcome.TESTED, "", ""
        if self._stages.failure is not None:
            return self._judge_failure(self._stages.failure)
        if self._exited is None:
            return Outcome.LOST, _KEEPER_LOST, ""
        return (*self._judge_exit(self._exited.status), "")

    def _judge_setup(self) -> tuple[Outcome, str]:
        # No participant byte has run: whatever it was, it is ours.
        if self._kill_reason is not None:
            outcome, sentence = self._kill_reason
            return outcome if outcome is Outcome.STOPPED else Outcome.NOT_STARTED, sentence
        if self._exited is None:
            return Outcome.NOT_STARTED, _KEEPER_LOST
        return (
            Outcome.NOT_STARTED,
            f"the child ended with status {self._exited.status} at its setup",
        )

    def _judge_failure(self, failure: Failure) -> tuple[Outcome, str, str]:
        sentence = failure.sentence
        if failure.outcome is Outcome.MEMORY_LIMIT:
            sentence = (
                f"memory limit: asked for more than the {self._limits.memory_mb:g} MB allowed "
                f"({sentence})"
            )
        return failure.outcome, sentence, failure.traceback

    def _judge_exit(self, status: int) -> tuple[Outcome, str]:
        if status == -signal.SIGKILL:
            return Outcome.LOST, "the run was killed from outside"
        if status < 0:
            outcome = Outcome.KILLED if -status in _OWN_SIGNALS else Outcome.SUBMISSION_ERROR
            return outcome, f"ended by the signal {_name_signal(-status)}"
        return Outcome.SUBMISSION_ERROR, f"left without a report, with exit status {status}"

    def _give_leave(self, *descriptors: int) -> None:
        with contextlib.suppress(OSError):  # it may be gone, or have closed its end
            socket.send_fds(self._channel, [b"."], list(descriptors))

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
            return False
        try:
            for kind, payload in self._stages.reader.feed(piece):
                self._stages.take(kind, payload)
        except ReportError as error:
            self._kill(error.outcome, error.sentence)
            return False
        if self._stages.is_over:
            self._expect_leaving()
        return True

    def _read_exit(self) -> None:
        self._exited = self._keeper.read_exit()

    def _note_death(self) -> None:
        self._selector.unregister(self._pidfd)
        self._is_dead = True
        self._expect_exit()

    def _stop_reading_channel(self) -> None:
        if self._channel in self._selector.get_map():
            self._selector.unregister(self._channel)
        self._expect_leaving()

    def _expect_leaving(self) -> None:
        if self._leave_by is None:
            self._leave_by = time.monotonic() + LEAVE_SECONDS

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
            self._end_the_silent()
        # What is leaving has LEAVE_SECONDS for it, and nothing it does can change the verdict.
        if self._stages.is_over:
            return
        if is_unwanted:
            self._kill(Outcome.STOPPED, "stopped")
        self._check_limits(now)

    def _asks_to_stop(self, now: float) -> bool:
        if now < self._next_stop_check:
            return False
        self._next_stop_check = now + STOP_CHECK_SECONDS
        return self._should_stop()

    def _end_the_silent(self) -> None:
        """End what goes on without a way to report, or after its report."""
        if self._stages.is_over:
            self._kill()
        else:
            self._kill(Outcome.SUBMISSION_ERROR, "closed the channel that it reports on")

    def _check_limits(self, now: float) -> None:
        if now < self._next_sample:
            return
        if self._stages.has_started:
            self._compare(self._meter.sample(), seconds=now - self._stages.started_at)
        elif now > self._setup_by:
            self._kill(Outcome.NOT_STARTED, "the child did not begin in time")
        # A look at many processes takes long; it is not to take more than a tenth of our time.
        looked = time.monotonic()
        self._sample_seconds = min(self._sample_seconds * 1.5, LONGEST_SAMPLE_SECONDS)
        self._next_sample = looked + max(self._sample_seconds, 10 * (looked - now))

    def _compare(self, sample: Sample, *, seconds: float) -> None:
        limits = self._limits
        peak_mb = (sample.peak_bytes or 0) / 2**20
        if peak_mb > limits.memory_mb:
            self._kill(
                Outcome.MEMORY_LIMIT,
                f"memory limit: used {peak_mb:.0f} MB of {limits.memory_mb:g} MB",
            )
        elif sample.cpu_seconds > limits.cpu_seconds:
            self._kill(
                Outcome.CPU_LIMIT,
                f"CPU limit: used {sample.cpu_seconds:.1f} s of {limits.cpu_seconds:g} s",
            )
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
            self._meter.sample_closely()  # the last look at what it has used
        self._stop_reading_channel()
        self._expect_exit()
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)


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
