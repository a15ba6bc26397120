"""Predictions in files, for contenders whose processes answer in no other way."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from bench.overhead.work import Answer


def write_answer(answer: Answer, path: Path, *, started_at: float = 0.0) -> None:
    """Write a fold's predictions, and the moment when it started, so that none sees half of it."""
    draft = path.with_suffix(".draft.npz")
    np.savez(
        draft,
        train=answer.train_predictions,
        test=answer.test_predictions,
        started_at=np.float64(started_at),
    )
    os.replace(draft, path)


def read_answer(path: Path) -> Answer:
    """Return the predictions that `write_answer` wrote."""
    with np.load(path) as stored:
        return Answer(stored["train"], stored["test"])


def read_start(path: Path) -> float:
    """Return when the fold started, in seconds since the epoch."""
    with np.load(path) as stored:
        return float(stored["started_at"])
