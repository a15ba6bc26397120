"""Runs untrusted code and tells what happened; the worker's side of the border.

A supervisor owns one keeper. For each run it makes a scratch folder, lets the keeper fork a
child, and follows the run to its end (`run.py`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from runapp.runner.contract import DATA_FOLDER, FoldJob, FrameKind, Outcome, RunResult, SplitJob
from runapp.runner.keepers import KeeperFailed, KeeperProcess
from runapp.runner.reports import Sink
from runapp.runner.run import STOP_CHECK_SECONDS, Request, Run, ShouldStop
from runapp.runner.scratch import open_scratch, sweep_scratch
from runapp.runner.stages import FoldStages, OnStage, SplitStages, Stages


class _Stopped(Exception):
    """The caller wants no run any more, and none has begun."""


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
        """Start the keeper unless there is one that lives, without waiting for its imports.

        Raises
        ------
        KeeperFailed
            When the system has no process or no descriptor left for one.
        """
        if self._keeper is not None and not self._keeper.is_alive:
            self.close()
        if self._keeper is None:
            sweep_scratch(self._scratch_root)
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
            Told of every stage passed, with the usage so far and the predictions made. What it
            raises ends the run and is raised to the caller.
        should_stop : callable
            Asked about once a second; true ends the run.

        Returns
        -------
        RunResult
            `outcome.is_ours` tells a fault of ours, to be tried again, from one of theirs.
        """
        with open_scratch(self._scratch_root) as scratch:
            request = Request(
                action="fold",
                packed=job.pack(),
                inputs={"x_train": x_train.fileno()},
                scratch=scratch,
                limits=job.limits,
            )
            stages = FoldStages(job=job, x_test=x_test, on_stage=on_stage)
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
            Asked about once a second; true ends the run.

        Returns
        -------
        RunResult
            `tested` when all four parts are complete.
        """
        with open_scratch(self._scratch_root) as scratch:
            for name, source in files.items():
                target = scratch / DATA_FOLDER / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
            request = Request(
                action="split",
                packed=job.pack(),
                inputs={},
                scratch=scratch,
                limits=job.limits,
            )
            stages = SplitStages(sinks=sinks, max_part_bytes=max_part_bytes)
            return self._run(request=request, stages=stages, should_stop=should_stop)

    def _run(self, *, request: Request, stages: Stages, should_stop: ShouldStop) -> RunResult:
        with ExitStack() as stack:
            try:
                run = self._fork(request, stages, should_stop, stack)
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
            return run.give_verdict()

    def _fork(
        self, request: Request, stages: Stages, should_stop: ShouldStop, stack: ExitStack
    ) -> Run:
        """Fork by the keeper or, when it turns out to be dead, by another."""
        for has_another_try in (True, False):
            try:
                with self._ending_keeper_on_error():
                    return Run(
                        keeper=self._await_keeper(should_stop),
                        request=request,
                        stages=stages,
                        should_stop=should_stop,
                        stack=stack,
                    )
            except KeeperFailed:
                if not has_another_try:
                    raise
        raise AssertionError("unreachable")

    @contextmanager
    def _ending_keeper_on_error(self) -> Iterator[None]:
        try:
            yield
        except _Stopped:
            raise
        except BaseException:
            self.close()
            raise

    def _await_keeper(self, should_stop: ShouldStop) -> KeeperProcess:
        self.warm_up()
        assert self._keeper is not None
        # The caller renews its lease while it is asked.
        while not self._keeper.is_ready(timeout=STOP_CHECK_SECONDS):
            if should_stop():
                raise _Stopped
        return self._keeper
