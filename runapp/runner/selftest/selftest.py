"""Tries to break every promise, by submissions that are run as any other, and tells what held.

A few folds do all of it: one that tries every escape which does no harm, and leaves things
behind; one that looks for them and then goes over limits; one for each limit that ends a run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from runapp.runner.contract import (
    Confinement,
    DataForm,
    FoldJob,
    Limits,
    Outcome,
    RunResult,
    StageReport,
)
from runapp.runner.selftest.bait import N_TEST, N_TRAIN, N_TRAINING, Bait, lay_bait
from runapp.runner.selftest.promises import Finding, Promise, SelfTest

__all__ = ["Finding", "Promise", "SelfTest", "run_selftest"]

_PROBES = Path(__file__).with_name("probes")
_NO_MECHANISM = "none"
# Of a run that somebody else has ended, which shows nothing about the host.
_MOST_TRIES = 3
_ENDED_BY_OTHERS = (Outcome.LOST, Outcome.NOT_STARTED)
_MOST_TOLD = 4


class Result(StrEnum):
    """What came of an attempt, in the words of the probes."""

    REFUSED = "refused"
    DONE = "done"
    MADE = "made"  # laid out for another attempt; neither good nor bad
    FAILED = "failed"  # it could not be made, so it shows nothing


@dataclass(frozen=True)
class Attempt:
    """One thing that a probe has tried."""

    name: str
    result: Result
    detail: str


@dataclass(frozen=True)
class Report:
    """What a probe has told of one promise; without an end it is not complete."""

    attempts: tuple[Attempt, ...] = ()
    n_attempts: int | None = None

    @property
    def is_complete(self) -> bool:
        return self.n_attempts == len(self.attempts)


class Role(StrEnum):
    """What a probing run does."""

    ESCAPES = "escapes"
    AFTERMATH = "aftermath"
    CHILD_MEMORY = "child_memory"
    CPU = "cpu"
    PROCESSES = "processes"


@dataclass(frozen=True)
class Ran:
    """A probing run and what it told."""

    result: RunResult
    reports: Mapping[Promise, Report]


class FoldRunner(Protocol):
    """What a self-test needs of a supervisor."""

    def run_fold(
        self,
        *,
        job: FoldJob,
        x_train: BinaryIO,
        x_test: BinaryIO,
        on_stage: Callable[[StageReport], None],
        should_stop: Callable[[], bool],
    ) -> RunResult: ...

    def describe(self) -> Confinement: ...


_LIMITS = Limits(
    wall_seconds=20, cpu_seconds=10, memory_mb=512, processes=16, scratch_mb=16, output_kb=128
)
# Small enough to be reached at once; a run of iris needs less.
_LIMITS_OF: dict[Role, dict[str, Any]] = {
    Role.ESCAPES: {},
    Role.AFTERMATH: {"memory_mb": 64, "scratch_mb": 8},
    Role.CHILD_MEMORY: {"memory_mb": 64},
    Role.CPU: {"cpu_seconds": 0.2},
    Role.PROCESSES: {"processes": 12},
}
# Which runs tell of which promise; without a report of each of them it is not kept.
_TOLD_BY = {
    Promise.NETWORK: (Role.ESCAPES,),
    Promise.FILES: (Role.ESCAPES,),
    Promise.LABELS: (Role.ESCAPES,),
    Promise.NEIGHBOURS: (Role.ESCAPES, Role.AFTERMATH),
    Promise.PROCESSES: (Role.PROCESSES,),
    Promise.SCRATCH: (Role.AFTERMATH,),
    Promise.KERNEL: (Role.ESCAPES,),
}
# How a run must end that goes over a limit.
_ENDS_OF = {
    Promise.MEMORY: {
        Role.AFTERMATH: Outcome.MEMORY_LIMIT,
        Role.CHILD_MEMORY: Outcome.MEMORY_LIMIT,
    },
    Promise.CPU: {Role.CPU: Outcome.CPU_LIMIT},
}


def run_selftest(
    *,
    supervisor: FoldRunner,
    folder: Path,
    private: Sequence[Path] = (),
    versions: Mapping[str, str] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> SelfTest:
    """Run probing submissions as folds and tell which promises they could not break.

    Parameters
    ----------
    supervisor : FoldRunner
        Set up as those that run participants' folds.
    folder : Path
        Where the worker keeps the inputs of runs; gets a folder for the time of the self-test.
    private : sequence of Path, optional
        More folders that no run may see.
    versions : mapping of str to str, optional
        To be told with the findings.
    should_stop : callable, optional
        Asked about once a second; true ends the self-test, and nothing is found kept.

    Returns
    -------
    SelfTest
        A promise that could not be tried is not kept.
    """
    with lay_bait(folder=folder, private=private) as bait:
        ran: dict[Role, Ran] = {}
        for role in Role:
            ran[role] = _run(role, bait, supervisor, should_stop)
            if ran[role].result.outcome in (Outcome.STOPPED, Outcome.NOT_STARTED):
                break  # nor would the others
        traces = bait.find_traces()
    confinement = supervisor.describe()
    return SelfTest(
        findings=tuple(
            _judge(promise, ran, traces[promise], confinement.mechanisms) for promise in Promise
        ),
        level=confinement.level,
        measured_by=confinement.measured_by,
        versions=dict(versions or {}),
        reasons=tuple(confinement.reasons),
    )


def _run(role: Role, bait: Bait, supervisor: FoldRunner, should_stop: Callable[[], bool]) -> Ran:
    for _ in range(_MOST_TRIES):
        ran = _try(role, bait, supervisor, should_stop)
        if ran.result.outcome not in _ENDED_BY_OTHERS:
            break
    return ran


def _try(role: Role, bait: Bait, supervisor: FoldRunner, should_stop: Callable[[], bool]) -> Ran:
    job = _make_job(role, bait)
    x_train, x_test = bait.open_parts()
    with x_train, x_test:
        result = supervisor.run_fold(
            job=job,
            x_train=x_train,
            x_test=x_test,
            on_stage=lambda report: None,
            should_stop=should_stop,
        )
    return Ran(result, parse_reports(result.output))


def _make_job(role: Role, bait: Bait) -> FoldJob:
    limits = Limits(**{**vars(_LIMITS), **_LIMITS_OF[role]})
    told = {**bait.describe(), "role": role, **vars(limits), "scratch_mb": int(limits.scratch_mb)}
    files = {path.name: path.read_bytes() for path in _PROBES.glob("*.py")}
    return FoldJob(
        files={**files, "bait.json": json.dumps(told).encode()},
        elements=("regressor",),
        kit_files={},
        kit_module=None,
        form=DataForm.FRAME,
        train_is=np.arange(N_TRAINING),
        labels=bait.labels,
        n_train=N_TRAIN,
        n_test=N_TEST,
        test_bytes=2**16,
        n_classes=None,
        class_columns=(),
        limits=limits,
        max_predictions_bytes=2**16,
    )


def parse_reports(output: str) -> dict[Promise, Report]:
    """Read what a probe has printed; what is no such line is passed over.

    Parameters
    ----------
    output : str
        What the run printed, which anything may have written.

    Returns
    -------
    dict of Promise to Report
        Of each promise, complete or not; an empty one of what nothing was told of.
    """
    attempts: dict[Promise, list[Attempt]] = {promise: [] for promise in Promise}
    ends: dict[Promise, int] = {}
    for line in output.splitlines():
        match _parse_line(line):
            case {"promise": Promise() as promise, "n_attempts": int(number)}:
                ends[promise] = number
            case {
                "promise": Promise() as promise,
                "name": str(name),
                "result": Result() as result,
                "detail": str(detail),
            }:
                attempts[promise].append(Attempt(name, result, detail))
    return {promise: Report(tuple(told), ends.get(promise)) for promise, told in attempts.items()}


def _parse_line(line: str) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    for name, kind in (("promise", Promise), ("result", Result)):
        value = content.get(name)
        if isinstance(value, str) and value in list(kind):
            content[name] = kind(value)
    return content


def _judge(
    promise: Promise,
    ran: Mapping[Role, Ran],
    traces: Iterable[str],
    mechanisms: Mapping[str, str],
) -> Finding:
    troubles = list(traces)
    for role in _TOLD_BY.get(promise, ()):
        troubles += _list_troubles(promise, ran.get(role))
    for role, outcome in _ENDS_OF.get(promise, {}).items():
        troubles += _compare_end(ran.get(role), role, outcome)
    detail = "; ".join(troubles[:_MOST_TOLD]) if troubles else _praise(promise, ran)
    if len(troubles) > _MOST_TOLD:
        detail += f"; and {len(troubles) - _MOST_TOLD} more"
    mechanism = mechanisms.get(promise.value, _NO_MECHANISM)
    return Finding(promise, is_kept=not troubles, mechanism=mechanism, detail=detail)


def _list_troubles(promise: Promise, ran: Ran | None) -> list[str]:
    if ran is None:
        return ["it was not tried"]
    report = ran.reports.get(promise, Report())
    troubles = [
        f"{attempt.name}: {attempt.detail}"
        if attempt.result is Result.DONE
        else f"{attempt.name} could not be tried: {attempt.detail}"
        for attempt in report.attempts
        if attempt.result in (Result.DONE, Result.FAILED)
    ]
    if not report.is_complete:
        troubles.append(f"not all was tried: {_describe_end(ran.result)}")
    return troubles


def _compare_end(ran: Ran | None, role: Role, outcome: Outcome) -> list[str]:
    if ran is None:
        return ["it was not tried"]
    if ran.result.outcome is outcome:
        return []
    return [f"the run {role} did not end as {outcome}: {_describe_end(ran.result)}"]


def _describe_end(result: RunResult) -> str:
    sentence = f", {result.sentence}" if result.sentence else ""
    return f"{result.outcome}{sentence}"


def _praise(promise: Promise, ran: Mapping[Role, Ran]) -> str:
    if promise in _ENDS_OF:
        roles = _ENDS_OF[promise]
        return "; ".join(ran[role].result.sentence for role in roles)
    attempts = [
        attempt
        for role in _TOLD_BY[promise]
        for attempt in ran[role].reports[promise].attempts
        if attempt.result is Result.REFUSED
    ]
    return f"{len(attempts)} {'attempt' if len(attempts) == 1 else 'attempts'} came to nothing"
