"""Runs a claimed fold and records what came of it."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from django.conf import settings
from django.db import Error
from django.db.models.functions import Now
from numpy.typing import NDArray

from runapp.changes.counters import CLAIM_LATENCY_SECONDS, observe
from runapp.changes.feed import publishing, touch
from runapp.common.exceptions import StorageAway, StorageError
from runapp.common.outages import is_outage
from runapp.common.retry import forget_broken_connections, insist
from runapp.common.transitions import Phase, State
from runapp.common.wire import unpack_indices
from runapp.execution.heartbeat import Heartbeat, Interrupted, make_pulse
from runapp.models import Predictions, RawData, SubmissionFold
from runapp.runner.contract import (
    DataForm,
    FoldJob,
    FrameKind,
    Limits,
    Outcome,
    RunResult,
    StageReport,
    Usage,
)
from runapp.runner.data import array_file
from runapp.runner.supervisor import Supervisor
from runapp.scheduling.attempts import (
    begin_attempt,
    has_ended,
    held_fold,
    record_attempt,
    refuse_write,
)
from runapp.scheduling.claims import renew_fold
from runapp.scheduling.fair_share import settle
from runapp.scheduling.outcomes import (
    CANCELLED,
    WORKER_LEFT,
    count_waited,
    fail_siblings,
    return_fold,
)
from runapp.scheduling.results import (
    describe,
    hide_home,
    name_our_fault,
    show_usage,
    store_predictions,
    tally_usage,
    write_log,
)
from runapp.scheduling.state_changes import move
from runapp.storage import Kind, Pulse

logger = logging.getLogger(__name__)

IsLeaving = Callable[[], bool]


class DoesNotFit(Exception):
    """The fold's indices do not fit the dataset's split."""


def run_fold(
    *,
    fold: SubmissionFold,
    supervisor: Supervisor,
    is_leaving: IsLeaving,
    heartbeat: type[Heartbeat] = Heartbeat,
) -> bool:
    """Train and test a claimed fold; whatever happens ends in one recorded outcome.

    Parameters
    ----------
    fold : SubmissionFold
        Claimed, with its submission and dataset loaded.
    supervisor : Supervisor
        The slot's own.
    is_leaving : callable
        True when the worker shuts down and its grace has passed: the fold goes back unspent.
    heartbeat : type, optional
        What renews the lease.

    Returns
    -------
    bool
        False when the runner could not begin, or the storage is away, and the fold, unspent, is
        for another to take.
    """
    raw_data = fold.submission.raw_data
    fold.code_digest, fold.split_digest = fold.submission.hash_files, raw_data.split_digest
    made: dict[str, NDArray[np.float64]] = {}
    with heartbeat(
        name=f"fold {fold.pk}",
        check=lambda: held_fold(fold).exists(),
        renew=lambda: renew_fold(fold),
        is_leaving=is_leaving,
    ) as heart:
        pulse = make_pulse(heart.should_stop)
        try:
            job = _make_job(fold, raw_data, pulse)
            result = _run(fold, raw_data, job, supervisor, heart, made, pulse)
            heart.note_end()
            # What was trained is not thrown away because the database is away for a moment.
            insist(
                lambda: _record(fold, raw_data, result, made, heart, pulse),
                what=f"fold {fold.pk}",
                should_stop=is_leaving,
            )
        except DoesNotFit as error:
            result = RunResult(Outcome.SUBMISSION_ERROR, str(error), "", "", Usage())
            _record_error(fold, result, heart, error_code="split_error")
        except Interrupted:
            result = RunResult(Outcome.STOPPED, "Stopped while files were moved", "", "", Usage())
            _record(fold, raw_data, result, {}, heart, pulse)
        except StorageError as error:
            return _give_back(fold, error)
    return result.outcome is not Outcome.NOT_STARTED


def _give_back(fold: SubmissionFold, error: StorageError) -> bool:
    """Give a fold back for its files; False when the slot should pause."""
    is_away = isinstance(error, StorageAway)
    logger.error("fold %s: %s (%s)", fold.pk, error.message, error.__cause__)
    return_fold(
        fold,
        reason="The dataset's files cannot be read here.",
        is_spent=not is_away,
        error_code="internal_error",
    )
    return not is_away


def _run(
    fold: SubmissionFold,
    raw_data: RawData,
    job: FoldJob,
    supervisor: Supervisor,
    heart: Heartbeat,
    made: dict[str, NDArray[np.float64]],
    pulse: Pulse,
) -> RunResult:
    def on_start() -> None:
        _write_unless_away(lambda: begin_attempt(fold=fold), fold)

    def on_stage(report: StageReport) -> None:
        if report.predictions is not None:
            made[_PARTS[report.kind]] = report.predictions
        if report.kind in _LIVE_STATES:
            _write_unless_away(lambda: _show_stage(fold, report), fold)

    assert raw_data.parts is not None
    with ExitStack() as stack:
        x_train, x_test = (
            stack.enter_context(
                raw_data.bin.open(kind=Kind.FEATURES, digest=raw_data.parts[name], pulse=pulse)
            )
            for name in ("X_train", "X_test")
        )
        return supervisor.run_fold(
            job=job,
            x_train=x_train,
            x_test=x_test,
            on_stage=on_stage,
            should_stop=heart.should_stop,
            on_start=on_start,
        )


def _show_stage(fold: SubmissionFold, report: StageReport) -> None:
    with publishing():
        moved = move(
            held_fold(fold),
            phase=Phase.RUNNING,
            state=_LIVE_STATES[report.kind],
            **show_usage(report.usage),
        )
    if not moved:
        refuse_write(fold=fold)


def _write_unless_away(write: Callable[[], None], fold: SubmissionFold) -> None:
    # What a poller sees meanwhile is not worth a run; its end waits for the database.
    try:
        write()
    except Error as error:
        if not is_outage(error):
            raise
        logger.warning("fold %s: a stage was not shown: %s", fold.pk, error)
        forget_broken_connections()


def _make_job(fold: SubmissionFold, raw_data: RawData, pulse: Pulse) -> FoldJob:
    # A dataset that is READY has them all.
    assert raw_data.parts is not None
    assert raw_data.n_train is not None
    assert raw_data.n_test is not None
    bin, parts = raw_data.bin, raw_data.parts
    train_is = unpack_indices(bytes(fold.train_is))
    _check_fit(fold, raw_data, train_is)
    labels = bin.read(kind=Kind.LABELS, digest=parts["y_train"], pulse=pulse)
    y = array_file.read_column(labels)[train_is]
    packed = io.BytesIO()
    array_file.write_column(y, packed)
    kit_module = raw_data.specific_module
    kit_files = {name: sha for name, sha in raw_data.files.items() if name.endswith(".py")}
    classes = raw_data.classes if kit_module is None else None
    return FoldJob(
        files=bin.read_tree(kind=Kind.CODE, files=fold.submission.files, pulse=pulse),
        elements=tuple(raw_data.elements),
        kit_files=bin.read_tree(kind=Kind.RAW, files=kit_files, pulse=pulse),
        kit_module=kit_module,
        form=DataForm(parts["form"]),
        train_is=train_is,
        labels=packed.getvalue(),
        n_train=raw_data.n_train,
        n_test=raw_data.n_test,
        test_bytes=bin.measure(kind=Kind.FEATURES, digest=parts["X_test"]),
        n_classes=None if classes is None else len(classes),
        class_columns=() if classes is None else _place_classes(classes, y),
        limits=Limits(**raw_data.limits_in_force),
        max_predictions_bytes=settings.MAX_PREDICTIONS_BYTES,
    )


def _check_fit(fold: SubmissionFold, raw_data: RawData, train_is: NDArray[np.int64]) -> None:
    # Posted before the split was known, or before it was made anew.
    for name, indices in (("train_is", train_is), ("test_is", unpack_indices(bytes(fold.test_is)))):
        most = int(indices.max())
        if most >= (raw_data.n_train or 0):
            raise DoesNotFit(
                f"{name} names row {most}; the dataset's train part has {raw_data.n_train} rows."
            )


def _place_classes(classes: list[Any], y: NDArray[Any]) -> tuple[int, ...]:
    """Return the places among the sorted classes of the labels that occur in y."""
    place = {label: number for number, label in enumerate(classes)}
    return tuple(sorted(place[label] for label in set(y.tolist())))


def _record(
    fold: SubmissionFold,
    raw_data: RawData,
    result: RunResult,
    made: dict[str, NDArray[np.float64]],
    heart: Heartbeat,
    pulse: Pulse,
) -> None:
    usage = asdict(result.usage)
    if result.outcome is Outcome.STOPPED and heart.has_left:
        return_fold(fold, reason=WORKER_LEFT, is_spent=False, error_code="worker_lost", usage=usage)
    elif result.outcome is Outcome.STOPPED:
        _record_loss(fold, raw_data, result)
    elif result.outcome.is_ours:
        logger.error(
            *(
                "fold %s attempt %s: %s: %s",
                fold.pk,
                fold.attempt,
                result.outcome,
                describe(result),
            ),
            extra={"action": "fold_hindered", "outcome": result.outcome.value},
        )
        return_fold(
            fold,
            reason=f"Our fault: {result.sentence}.",
            is_spent=result.outcome is not Outcome.NOT_STARTED,
            error_code=name_our_fault(result.outcome),
            usage=usage,
        )
    elif result.outcome is Outcome.TESTED:
        _record_success(fold, raw_data, result, made, heart, pulse)
    else:
        _record_error(fold, result, heart, error_code=result.outcome.value)


def _record_success(
    fold: SubmissionFold,
    raw_data: RawData,
    result: RunResult,
    made: dict[str, NDArray[np.float64]],
    heart: Heartbeat,
    pulse: Pulse,
) -> None:
    rows = insist(
        lambda: [
            store_predictions(values, part=part, bin=raw_data.bin, pulse=pulse)
            for part, values in made.items()
        ],
        what=f"fold {fold.pk}",
        should_stop=heart.should_stop,
        is_away=lambda error: isinstance(error, StorageAway),
    )
    with publishing():
        moved = move(
            held_fold(fold),
            phase=Phase.DONE,
            state=State.TESTED,
            log_messages=hide_home(result.output),
            predictions_bytes=sum(values.nbytes for values in made.values()),
            **_show_end(fold, result),
        )
        if moved:
            Predictions.objects.filter(fold=fold).delete()
            for row in rows:
                row.fold = fold
            Predictions.objects.bulk_create(rows)
            _close(fold, result, heart, outcome="tested")
    _tell(fold, raw_data, result, moved=bool(moved), outcome="tested")


def _record_error(
    fold: SubmissionFold, result: RunResult, heart: Heartbeat, *, error_code: str
) -> None:
    with publishing():
        moved = move(
            held_fold(fold),
            phase=Phase.DONE,
            state=State.ERROR,
            error_code=error_code,
            log_messages=write_log(result),
            **_show_end(fold, result),
        )
        if moved:
            _close(fold, result, heart, outcome=error_code)
    raw_data = fold.submission.raw_data
    counts = _tell(fold, raw_data, result, moved=bool(moved), outcome=error_code)
    if counts and result.is_before_fit and raw_data.fail_fast:
        fail_siblings(fold=fold, error_code=error_code, sentence=result.sentence)


def _close(fold: SubmissionFold, result: RunResult, heart: Heartbeat, *, outcome: str) -> None:
    record_attempt(fold=fold, outcome=outcome, usage=asdict(result.usage))
    settle(fold=fold, used_seconds=heart.seconds, is_typical=True)
    observe(CLAIM_LATENCY_SECONDS, count_waited(fold), priority=fold.priority)
    tally_usage(result.usage)


def _tell(
    fold: SubmissionFold, raw_data: RawData, result: RunResult, *, moved: bool, outcome: str
) -> bool:
    """Log how an attempt ended, or that it came too late; return whether it counts."""
    # A commit may have succeeded although its answer was lost: then this is the second try.
    counts = moved or has_ended(fold=fold, outcome=outcome)
    if counts:
        logger.info(
            *("fold %s attempt %s: %s", fold.pk, fold.attempt, outcome),
            extra={"action": "fold_ended", "outcome": outcome},
        )
    else:
        _record_loss(fold, raw_data, result)
    return counts


def _record_loss(fold: SubmissionFold, raw_data: RawData, result: RunResult) -> None:
    """Keep the usage of an attempt that was cancelled, restarted or overtaken."""
    rows = SubmissionFold.objects.filter(pk=fold.pk)
    # What a cancelled run has printed and used is still its owner's to see; of one that was
    # restarted, and then cancelled while it waited, no worker is named any more.
    cancelled = rows.filter(
        attempt=fold.attempt, worker=fold.worker, phase=Phase.DONE, error_code="cancelled"
    )
    with publishing():
        touch(
            cancelled,
            log_messages=write_log(replace(result, sentence=CANCELLED)),
            **show_usage(result.usage),
        )
    if rows.exists():
        refuse_write(fold=fold, usage=asdict(result.usage))
    elif not RawData.objects.filter(pk=raw_data.pk).exists():
        raw_data.bin.remove()  # what this run wrote after the dataset had been deleted


def _show_end(fold: SubmissionFold, result: RunResult) -> dict[str, Any]:
    return {
        **show_usage(result.usage),
        "code_digest": fold.code_digest,
        "split_digest": fold.split_digest,
        "finished_at": Now(),
        "lease_expires_at": None,
    }


_PARTS = {
    FrameKind.TRAIN_PREDICTIONS: Predictions.Part.FULL_TRAIN.value,
    FrameKind.TEST_PREDICTIONS: Predictions.Part.TEST.value,
}
_LIVE_STATES = {
    FrameKind.FITTED: State.TRAINED,
    FrameKind.TRAIN_PREDICTIONS: State.VALIDATED,
}
