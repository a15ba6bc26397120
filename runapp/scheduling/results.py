"""What a run has come to, as a row and the logs show it, and as metrics count it."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from django.conf import settings
from numpy.typing import NDArray

from runapp.changes.counters import (
    STAGE_CPU_SECONDS,
    STAGE_MEMORY_BYTES,
    STAGE_SECONDS,
    Histogram,
    observe,
)
from runapp.models import Predictions
from runapp.runner.contract import Outcome, RunResult, Usage
from runapp.storage import Bin, Kind, Pulse


def name_our_fault(outcome: Outcome) -> str:
    """Return the error code with which a fault of ours ends what was tried too often."""
    return "worker_lost" if outcome is Outcome.LOST else "internal_error"


def describe(result: RunResult) -> str:
    """Return what an operator's log tells of a fault of ours.

    What participant code has printed is not for logs: of a run that was lost in the middle nothing
    is told but how much it was. Before it begins, all output is of our own part of the child.
    """
    if result.outcome is Outcome.LOST:
        return f"{result.sentence} ({len(result.output)} characters of output)"
    return f"{result.sentence} {result.output}"


def write_log(result: RunResult) -> str:
    """Return what a client reads of a failed run: its output, then what happened."""
    sentence = result.sentence
    if "." not in sentence.partition(" ")[0]:  # a file's name stays as it is
        sentence = sentence[:1].upper() + sentence[1:]
    parts = [result.output.rstrip("\n"), sentence, result.traceback.rstrip("\n")]
    return hide_home("\n".join(part for part in parts if part))


def hide_home(text: str) -> str:
    """Return what a run has printed without the place of the home."""
    return text.replace(str(settings.DATARUN_HOME), "home")


def show_usage(usage: Usage) -> dict[str, Any]:
    """Return the columns of a fold's row."""
    return {
        "train_time": usage.train_seconds,
        "validation_time": usage.validation_seconds,
        "test_time": usage.test_seconds,
        "train_cpu_time": usage.train_cpu_seconds,
        "test_cpu_time": usage.test_cpu_seconds,
        "train_memory": _to_kilobytes(usage.train_peak_bytes),
        "test_memory": _to_kilobytes(usage.test_peak_bytes),
        "measured_by": usage.measured_by,
    }


def _to_kilobytes(size: int | None) -> float | None:
    return None if size is None else size / 1024


def tally_usage(usage: Usage) -> None:
    """Count what was measured, of the stages that a run came to."""
    measured: tuple[tuple[Histogram, str, float | None], ...] = (
        (STAGE_SECONDS, "train", usage.train_seconds),
        (STAGE_SECONDS, "validation", usage.validation_seconds),
        (STAGE_SECONDS, "test", usage.test_seconds),
        (STAGE_CPU_SECONDS, "train", usage.train_cpu_seconds),
        (STAGE_CPU_SECONDS, "test", usage.test_cpu_seconds),
        (STAGE_MEMORY_BYTES, "train", usage.train_peak_bytes),
        (STAGE_MEMORY_BYTES, "test", usage.test_peak_bytes),
    )
    for histogram, stage, value in measured:
        if value is not None:
            observe(histogram, value, stage=stage)


def store_predictions(
    values: NDArray[np.float64], *, part: str, bin: Bin, pulse: Pulse
) -> Predictions:
    """Make the row of a fold's predictions; the bytes of large ones go to the dataset's bin.

    Parameters
    ----------
    values : ndarray of float64, shape (n_rows,) or (n_rows, n_columns)
        The predictions.
    part : str
        `full_train` or `test`.
    bin : Bin
        The dataset's blobs.
    pulse : callable
        Called while large ones are on their way.

    Returns
    -------
    Predictions
        Not saved, and without its fold.
    """
    content = values.astype("<f8", copy=False).tobytes()
    row = Predictions(part=part, shape=list(values.shape))
    if len(content) <= settings.INLINE_PREDICTIONS_BYTES:
        row.digest, row.data = hashlib.sha256(content).hexdigest(), content
    else:
        row.digest = bin.write(kind=Kind.PREDICTIONS, content=content, pulse=pulse)
    return row


def read_predictions(predictions: Predictions, *, bin: Bin) -> bytes:
    """Return predictions as float64 bytes in C order."""
    if predictions.data is not None:
        return bytes(predictions.data)
    return bin.read(kind=Kind.PREDICTIONS, digest=predictions.digest)
