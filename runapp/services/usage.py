"""What a run has used: as a row shows it, and as metrics count it."""

from __future__ import annotations

from typing import Any

from runapp.changes.counters import (
    STAGE_CPU_SECONDS,
    STAGE_MEMORY_BYTES,
    STAGE_SECONDS,
    Histogram,
    observe,
)
from runapp.runner.contract import Usage


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
