"""Runs untrusted code and tells what happened; the worker's side of the border.

A supervisor owns one keeper. For each run it takes a child of the keeper's that waits sealed, and
follows the run to its end (`run.py`); meanwhile, and while the caller records the run, nothing
keeps the next child from being made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from runapp.runner.contract import (
    Confinement,
    FoldJob,
    FrameKind,
    Outcome,
    RunResult,
    SplitJob,
)
from runapp.runner.host import Host, Uid, claim_uid, survey_host
from runapp.runner.keeper.handle import KeeperFailed, KeeperProcess
from runapp.runner.reports import Sink
from runapp.runner.run import STOP_CHECK_SECONDS, Request, Run, ShouldStop
from runapp.runner.sandbox.levels import Level
from runapp.runner.sandbox.mounts import WORK, find_places
from runapp.runner.sandbox.scratch import open_scratch, sweep_scratch
from runapp.runner.stages import FoldStages, OnStage, OnStart, SplitStages, Stages


class _Stopped(Exception):
    """The caller wants no run any more, and none has begun."""


class Supervisor:
    """Runs folds and splits, one at a time, in fresh children of one warm keeper.

    Parameters
    ----------
    scratch_root : Path
        Where a run gets a folder of its own, removed after it, if the host does not let it have a
        file system of its own.
    inputs_root : Path or None, optional
        The folder below which the inputs of runs lie. They are opened read-only in a way that
        even the owner of the files cannot get around; None hands them over as they are.
    hidden : sequence of Path, optional
        More folders that no run may see, wherever they lie.
    host : Host or None, optional
        What the host offers; None finds out at the first warm-up.
    """

    def __init__(
        self,
        *,
        scratch_root: Path,
        inputs_root: Path | None = None,
        hidden: Sequence[Path] = (),
        host: Host | None = None,
    ) -> None:
        self._scratch_root = scratch_root
        self._hidden = (scratch_root, *hidden)
        self._inputs_root = inputs_root.resolve() if inputs_root is not None else None
        self._host = host
        self._uid: Uid | None = None
        self._keeper: KeeperProcess | None = None
        self._successor: KeeperProcess | None = None
        # How many keepers it has started, by the reason.
        self.n_keepers = {"first": 0, "lost": 0, "worn": 0}

    @property
    def host(self) -> Host:
        """What the host offers."""
        if self._host is None:
            self._host = survey_host()
        return self._host

    @property
    def keeper_pid(self) -> int | None:
        """The process of the keeper that serves, None while there is none that is ready."""
        return None if self._keeper is None else self._keeper.pid or None

    def describe(self) -> Confinement:
        """Say what seals the runs and what measures them."""
        return self.host.describe()

    def warm_up(self) -> None:
        """Start the keeper unless there is one that lives, without waiting for its imports.

        Raises
        ------
        KeeperFailed
            When the system has no process or no descriptor left for one.
        """
        if self._keeper is not None and not self._keeper.is_alive:
            self._end_keeper()
        if self._keeper is None:
            sweep_scratch(self._scratch_root)
            self._keeper = self._start_keeper()
            self.n_keepers["lost" if self.n_keepers["first"] else "first"] += 1

    def _start_keeper(self) -> KeeperProcess:
        seal = self.host.seal
        if seal.level is Level.ROOT:
            try:
                self._uid = self._uid or claim_uid()
            except OSError as error:
                raise KeeperFailed(str(error)) from error
            seal = replace(seal, uid=self._uid.number)
        places = find_places(hidden=self._hidden, inputs=self._inputs_root)
        return KeeperProcess(seal=seal, places=places, cgroups=self.host.cgroups)

    def close(self) -> None:
        """End the keeper and whatever it runs."""
        self._end_keeper()
        self._end_successor()
        if self._uid is not None:
            self._uid.release()
            self._uid = None

    def _end_keeper(self) -> None:
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
        on_start: OnStart = lambda: None,
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
            Told of every stage passed, with the usage so far and the predictions made. What it
            raises ends the run and is raised to the caller.
        should_stop : callable
            Asked several times a second; true ends the run.
        on_start : callable, optional
            Told when the submission's code has begun to run: until then a fault is ours alone.
            What it raises ends the run and is raised to the caller.

        Returns
        -------
        RunResult
            `outcome.is_ours` tells a fault of ours, to be tried again, from one of theirs.
        """
        with self._open_scratch() as scratch:
            request = Request(
                action="fold",
                packed=job.pack(),
                inputs={"x_train": x_train},
                scratch=scratch,
                limits=job.limits,
            )
            stages = FoldStages(job=job, x_test=x_test, on_stage=on_stage, on_start=on_start)
            return self._run(request=request, stages=stages, should_stop=should_stop)

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
            Asked several times a second; true ends the run.

        Returns
        -------
        RunResult
            `tested` when all four parts are complete.
        """
        with ExitStack() as stack:
            request = Request(
                action="split",
                packed=job.pack(),
                inputs={name: stack.enter_context(path.open("rb")) for name, path in files.items()},
                scratch=stack.enter_context(self._open_scratch()),
                limits=job.limits,
            )
            stages = SplitStages(sinks=sinks, max_part_bytes=max_part_bytes)
            return self._run(request=request, stages=stages, should_stop=should_stop)

    @contextmanager
    def _open_scratch(self) -> Iterator[str]:
        if self.host.seal.level.has_namespaces:
            yield WORK  # in a file system of the run's own, which ends with it
        else:
            with open_scratch(self._scratch_root) as folder:
                yield str(folder)

    def _run(self, *, request: Request, stages: Stages, should_stop: ShouldStop) -> RunResult:
        result = self._try(request=request, stages=stages, should_stop=should_stop)
        if result.outcome is Outcome.NOT_STARTED:
            # The keeper turned out to be dead, or died now, and nothing has run: by another one.
            result = self._try(request=request, stages=stages, should_stop=should_stop)
        return result

    def _try(self, *, request: Request, stages: Stages, should_stop: ShouldStop) -> RunResult:
        with ExitStack() as stack:
            try:
                with self._ending_keeper_on_error():
                    run = Run(
                        keeper=self._await_keeper(should_stop),
                        request=request,
                        stages=stages,
                        should_stop=should_stop,
                        stack=stack,
                    )
            except KeeperFailed as error:
                return RunResult(Outcome.NOT_STARTED, str(error), "", "", stages.usage)
            except _Stopped:
                return RunResult(Outcome.STOPPED, "stopped", "", "", stages.usage)
            with suppress(KeeperFailed), self._ending_keeper_on_error():
                try:
                    run.follow()
                except BaseException:
                    # The keeper failed, or the caller's own callbacks did: leave nothing running.
                    run.abandon()
                    raise
            self._replace_worn_keeper()
            return run.give_verdict()

    @contextmanager
    def _ending_keeper_on_error(self) -> Iterator[None]:
        try:
            yield
        except _Stopped:
            raise
        except BaseException:
            self._end_keeper()
            raise

    def _replace_worn_keeper(self) -> None:
        """Let a fresh keeper take over when this one has served its time."""
        if self._keeper is None:
            return
        try:
            if self._successor is not None and self._successor.is_ready(timeout=0):
                self._keeper.close()
                self._keeper, self._successor = self._successor, None
            elif self._successor is None and self._keeper.is_worn():
                # It imports while this one goes on serving.
                self._successor = self._start_keeper()
                self.n_keepers["worn"] += 1
            self._keeper.prepare()  # where the run has not even begun
        except KeeperFailed:
            # None to be had now: the old one is good enough for as many runs again.
            self._end_successor()
            self._keeper.serve_on()

    def _end_successor(self) -> None:
        if self._successor is not None:
            self._successor.close()
            self._successor = None

    def _await_keeper(self, should_stop: ShouldStop) -> KeeperProcess:
        self.warm_up()
        assert self._keeper is not None
        # The caller renews its lease while it is asked.
        while not self._keeper.is_ready(timeout=STOP_CHECK_SECONDS):
            if should_stop():
                raise _Stopped
        return self._keeper
