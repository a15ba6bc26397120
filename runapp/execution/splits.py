"""Runs a claimed split and stores the parts."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.conf import settings
from numpy.typing import NDArray

from runapp.changes.feed import publishing, touch
from runapp.common.exceptions import StorageAway, StorageError
from runapp.common.retry import insist
from runapp.execution.heartbeat import Heartbeat, Interrupted, make_pulse
from runapp.models import RawData
from runapp.runner.contract import DataForm, FrameKind, Limits, Outcome, RunResult, SplitJob, Usage
from runapp.runner.data import array_file
from runapp.runner.data.labels import LabelError, class_labels
from runapp.runner.supervisor import Supervisor
from runapp.scheduling.claims import (
    end_split_in_error,
    held_split,
    renew_split,
    return_split,
    tell_split,
)
from runapp.scheduling.outcomes import WORKER_LEFT
from runapp.scheduling.results import describe, name_our_fault, write_log
from runapp.storage import BlobWriter, Kind

logger = logging.getLogger(__name__)

_PARTS = {
    "X_train": (FrameKind.X_TRAIN, Kind.FEATURES),
    "y_train": (FrameKind.Y_TRAIN, Kind.LABELS),
    "X_test": (FrameKind.X_TEST, Kind.FEATURES),
    "y_test": (FrameKind.Y_TEST, Kind.LABELS),
}
# Public codes of a dataset's failed split; what an organiser's code does wrong is `split_error`.
_LIMIT_CODES = (Outcome.WALL_LIMIT, Outcome.CPU_LIMIT, Outcome.MEMORY_LIMIT, Outcome.OUTPUT_LIMIT)


def run_split(
    *,
    raw_data: RawData,
    supervisor: Supervisor,
    is_leaving: Callable[[], bool],
    heartbeat: type[Heartbeat] = Heartbeat,
) -> bool:
    """Split a claimed dataset; whatever happens ends in one recorded outcome.

    Returns
    -------
    bool
        False when the runner could not begin, or the storage is away, and the split, unspent, is
        for another to take.
    """
    with heartbeat(
        name=f"dataset {raw_data.pk}",
        check=lambda: held_split(raw_data).exists(),
        renew=lambda: renew_split(raw_data),
        is_leaving=is_leaving,
    ) as heart:
        try:
            result, parts = _run(raw_data, supervisor, heart.should_stop)
            insist(
                lambda: _record(raw_data, result, parts, heart),
                what=f"dataset {raw_data.pk}",
                should_stop=is_leaving,
            )
        except Interrupted:
            result = RunResult(Outcome.STOPPED, "Stopped while files were moved", "", "", Usage())
            _record(raw_data, result, {}, heart)
        except (StorageError, FileNotFoundError) as error:
            return _give_back(raw_data, error)
    return result.outcome is not Outcome.NOT_STARTED


def _give_back(raw_data: RawData, error: StorageError | FileNotFoundError) -> bool:
    """Give a split back for its files; False when the slot should pause."""
    is_away = isinstance(error, StorageAway)
    if not held_split(raw_data).exists():
        logger.info("dataset %s: deleted or split anew meanwhile", raw_data.pk)
        return True
    logger.error("dataset %s: %s (%s)", raw_data.pk, error, error.__cause__)
    return_split(
        raw_data,
        reason="The dataset's files cannot be read here.",
        is_failure=not is_away,
        error_code="internal_error",
    )
    return not is_away


def _record(raw_data: RawData, result: RunResult, parts: dict[str, str], heart: Heartbeat) -> None:
    if result.outcome is Outcome.TESTED:
        _record_parts(raw_data, parts)
    elif result.outcome is Outcome.STOPPED:
        if heart.has_left:
            return_split(raw_data, reason=WORKER_LEFT, is_failure=False, error_code="worker_lost")
    elif result.outcome.is_ours:
        logger.error("dataset %s: %s", raw_data.pk, describe(result))
        return_split(
            raw_data,
            reason=f"Our fault: {result.sentence}.",
            is_failure=result.outcome is not Outcome.NOT_STARTED,
            error_code=name_our_fault(result.outcome),
        )
    else:
        code = result.outcome.value if result.outcome in _LIMIT_CODES else "split_error"
        end_split_in_error(raw_data, error_code=code, log_messages=write_log(result))


def _run(
    raw_data: RawData, supervisor: Supervisor, should_stop: Callable[[], bool]
) -> tuple[RunResult, dict[str, str]]:
    bin = raw_data.bin
    pulse = make_pulse(should_stop)
    writers: dict[str, BlobWriter] = {}
    with ExitStack() as stack:
        # Held open, as a blob that nobody uses may leave a cache.
        files = {
            name: stack.enter_context(bin.open(kind=Kind.RAW, digest=digest, pulse=pulse))
            for name, digest in raw_data.files.items()
        }
        for name, (_, kind) in _PARTS.items():
            writers[name] = stack.enter_context(bin.open_writer(kind=kind, pulse=pulse))
        n_bytes = sum(os.fstat(file.fileno()).st_size for file in files.values())
        result = supervisor.run_split(
            job=_make_job(raw_data, n_bytes=n_bytes),
            files={name: Path(file.name) for name, file in files.items()},
            sinks={kind: writers[name].write for name, (kind, _) in _PARTS.items()},
            max_part_bytes=settings.MAX_PART_BYTES,
            should_stop=should_stop,
        )
        if result.outcome is not Outcome.TESTED:
            for writer in writers.values():
                writer.discard()
    parts = {name: writer.digest for name, writer in writers.items()}
    form = DataForm.FRAME if raw_data.specific_module is None else DataForm.PICKLE
    return result, {**parts, "form": form.value}


def _make_job(raw_data: RawData, *, n_bytes: int) -> SplitJob:
    # Room for a copy of the files, for what a module makes of them and for one part at a time.
    scratch_mb = settings.MAX_LIMITS["scratch_mb"] + (2 * n_bytes + settings.MAX_PART_BYTES) / 2**20
    request = raw_data.split_request or {}
    return SplitJob(
        files=tuple(raw_data.files),
        kit_module=raw_data.specific_module,
        target_column=raw_data.target_column,
        is_classification="classifier" in raw_data.elements,
        held_out_test=request.get("held_out_test"),
        random_state=request.get("random_state"),
        limits=replace(
            Limits(**settings.MAX_LIMITS),
            wall_seconds=settings.SPLIT_WALL_SECONDS,
            output_kb=settings.DEFAULT_LIMITS["output_kb"],
            scratch_mb=scratch_mb,
        ),
    )


def _record_parts(raw_data: RawData, parts: dict[str, str]) -> None:
    try:
        y_train, y_test = (_read_labels(raw_data, parts[name]) for name in ("y_train", "y_test"))
        classes = class_labels(y_train) if "classifier" in raw_data.elements else None
    except (array_file.ColumnsError, LabelError) as error:
        end_split_in_error(raw_data, error_code="split_error", log_messages=str(error))
        return
    with publishing():
        stored = touch(
            held_split(raw_data),
            state=RawData.State.READY,
            error_code=None,
            log_messages="",
            classes=classes,
            n_train=len(y_train),
            n_test=len(y_test),
            parts=parts,
            split_digest=hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest(),
            split_phase=RawData.SplitPhase.IDLE,
            split_lease_expires_at=None,
        )
    if stored:
        tell_split(raw_data, "split: ready", action="split_ended", outcome="ready")
    else:
        logger.info("dataset %s: a split refused, a newer one was asked for", raw_data.pk)
        if not RawData.objects.filter(pk=raw_data.pk).exists():
            raw_data.bin.remove()  # what this run wrote after the dataset had been deleted


def _read_labels(raw_data: RawData, digest: str) -> NDArray[Any]:
    return array_file.read_column(raw_data.bin.read(kind=Kind.LABELS, digest=digest))
