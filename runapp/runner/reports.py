"""Checks what a child sends as if the participant had written every byte of it."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runapp.runner.contract import FRAME_HEADER, FoldJob, FrameKind, Outcome
from runapp.runner.output import show_controls

# Above what a child of ours writes: see MAX_TEXT of child/failure.py, at worst six bytes a
# character.
MAX_SMALL_FRAME = 2**18
_PREDICTIONS_HEADER = 1 + 2 * 8
# What a child may say of itself; everything else is found out from outside.
_TELLABLE = (Outcome.SUBMISSION_ERROR, Outcome.BAD_PREDICTIONS, Outcome.MEMORY_LIMIT)

Sink = Callable[[memoryview], object]


class ReportError(Exception):
    """What came is not what the protocol allows.

    Parameters
    ----------
    outcome : Outcome
        What that makes of the run.
    sentence : str
        What is wrong, for the participant.
    """

    def __init__(self, outcome: Outcome, sentence: str) -> None:
        super().__init__(sentence)
        self.outcome = outcome
        self.sentence = sentence


@dataclass(frozen=True)
class Failure:
    """A failure as the child tells it."""

    outcome: Outcome
    sentence: str
    traceback: str
    is_before_fit: bool = False


class FrameReader:
    """Cuts a byte stream into frames.

    Parameters
    ----------
    max_predictions_bytes : int
        The cap on one array of predictions.
    sinks : mapping of FrameKind to callable
        Where the payloads of large frames go piece by piece; such a frame is told with an empty
        payload once it is complete.
    max_sink_bytes : int
        The cap on such a frame.
    """

    def __init__(
        self,
        *,
        max_predictions_bytes: int,
        sinks: Mapping[FrameKind, Sink] | None = None,
        max_sink_bytes: int = 0,
    ) -> None:
        self._max_predictions_bytes = max_predictions_bytes
        self._sinks = sinks or {}
        self._max_sink_bytes = max_sink_bytes
        self._buffer = bytearray()
        self._sinking: FrameKind | None = None
        self._missing = 0

    def feed(self, piece: bytes) -> Iterator[tuple[FrameKind, bytes]]:
        """Take the next bytes and yield the frames that are complete.

        Raises
        ------
        ReportError
            When a frame is of no known kind or too long; nothing after it can be read.
        """
        view = memoryview(piece)
        while view:
            view = self._sink(view) if self._sinking is not None else self._collect(view)
            if self._sinking is not None and self._missing == 0:
                kind, self._sinking = self._sinking, None
                yield kind, b""
            elif self._sinking is None and (frame := self._cut()) is not None:
                yield frame

    def _sink(self, view: memoryview) -> memoryview:
        assert self._sinking is not None
        part = view[: self._missing]
        self._sinks[self._sinking](part)
        self._missing -= len(part)
        return view[len(part) :]

    def _collect(self, view: memoryview) -> memoryview:
        wanted = FRAME_HEADER.size
        if len(self._buffer) >= wanted:
            wanted += FRAME_HEADER.unpack_from(self._buffer)[1]
        part = view[: wanted - len(self._buffer)]
        self._buffer += part
        if len(self._buffer) == FRAME_HEADER.size:
            self._check_header()
        return view[len(part) :]

    def _check_header(self) -> None:
        number, length = FRAME_HEADER.unpack_from(self._buffer)
        try:
            kind = FrameKind(number)
        except ValueError:
            raise ReportError(
                Outcome.SUBMISSION_ERROR, "the report is not one that datarun writes"
            ) from None
        if kind in self._sinks:
            if length > self._max_sink_bytes:
                raise ReportError(Outcome.OUTPUT_LIMIT, f"a part of {length} bytes is too large")
            self._sinking, self._missing = kind, length
            self._buffer.clear()
            return
        if kind in (FrameKind.TRAIN_PREDICTIONS, FrameKind.TEST_PREDICTIONS):
            self._check_predictions_length(length)
        elif length > MAX_SMALL_FRAME:
            raise ReportError(Outcome.SUBMISSION_ERROR, "the report is longer than datarun writes")

    def _check_predictions_length(self, length: int) -> None:
        if length > self._max_predictions_bytes + _PREDICTIONS_HEADER:
            raise ReportError(
                Outcome.OUTPUT_LIMIT,
                f"output limit: predictions of {length - _PREDICTIONS_HEADER} bytes, "
                f"more than the {self._max_predictions_bytes} allowed",
            )

    def _cut(self) -> tuple[FrameKind, bytes] | None:
        if len(self._buffer) < FRAME_HEADER.size:
            return None
        number, length = FRAME_HEADER.unpack_from(self._buffer)
        if len(self._buffer) < FRAME_HEADER.size + length:
            return None
        with memoryview(self._buffer) as frame:
            payload = bytes(frame[FRAME_HEADER.size :])
        self._buffer.clear()
        return FrameKind(number), payload


def check_predictions(
    payload: bytes, *, job: FoldJob, n_rows: int, part: str
) -> NDArray[np.float64]:
    """Return the predictions of a part, spread over all classes where that is called for.

    Parameters
    ----------
    payload : bytes
        Number of dimensions, shape and float64 values as the child sent them.
    job : FoldJob
        What was asked for.
    n_rows : int
        Rows of the part.
    part : str
        What to call the part in a sentence.

    Returns
    -------
    ndarray of float64, shape (n_rows,) or (n_rows, n_columns)

    Raises
    ------
    ReportError
        With `bad_predictions` and a sentence that says what is wrong.
    """
    values = _read_array(payload, n_rows=n_rows, part=part)
    bad_rows = int((~np.isfinite(values.reshape(n_rows, -1))).any(axis=1).sum())
    if bad_rows:
        raise _bad(f"NaN or infinity in {bad_rows} of {n_rows} predictions of the {part} part")
    if job.is_own_workflow:
        return values
    if job.n_classes is None:
        if values.ndim != 1:
            raise _bad(f"predictions of shape {values.shape}; a regressor gives one value a row")
        return values
    return _spread(values, job=job, n_classes=job.n_classes)


def _spread(values: NDArray[np.float64], *, job: FoldJob, n_classes: int) -> NDArray[np.float64]:
    """Give every class its column; those that the training rows lack get zeros."""
    n_columns = values.shape[1] if values.ndim == 2 else 0
    if n_columns == n_classes:
        return values
    if n_columns and n_columns == len(job.class_columns):
        wide = np.zeros((len(values), n_classes))
        wide[:, list(job.class_columns)] = values
        return wide
    raise _bad(
        f"predictions of shape {values.shape}; predict_proba gives one column for each of the "
        f"{n_classes} classes, or for each of the {len(job.class_columns)} among the training rows"
    )


def _read_array(payload: bytes, *, n_rows: int, part: str) -> NDArray[np.float64]:
    n_dimensions = payload[0] if payload else 0
    start = 1 + 8 * n_dimensions
    if n_dimensions not in (1, 2) or len(payload) < start:
        raise _bad("the predictions have neither one nor two dimensions")
    shape = struct.unpack_from(f"<{n_dimensions}q", payload, 1)
    if min(shape) < 0 or len(payload) - start != 8 * math.prod(shape):
        raise _bad("the predictions are not as long as their shape says")
    if shape[0] != n_rows:
        raise _bad(f"{shape[0]} predictions for the {n_rows} rows of the {part} part")
    if 0 in shape:
        raise _bad(f"predictions of shape {shape} hold no value")
    return np.frombuffer(payload, dtype="<f8", offset=start).reshape(shape)


def _bad(sentence: str) -> ReportError:
    return ReportError(Outcome.BAD_PREDICTIONS, f"bad predictions: {sentence}")


def read_failure(payload: bytes) -> Failure:
    """Return what a child tells of its failure; nonsense is a submission error too."""
    try:
        content = json.loads(payload)
        outcome = Outcome(content["outcome"])
        sentence, traceback = str(content["sentence"]), str(content["traceback"])
        is_before_fit = content.get("is_before_fit") is True
    except (ValueError, KeyError, TypeError, RecursionError):
        return Failure(Outcome.SUBMISSION_ERROR, "the report is not one that datarun writes", "")
    if outcome not in _TELLABLE:
        outcome = Outcome.SUBMISSION_ERROR
    return Failure(outcome, _clean(sentence), _clean(traceback), is_before_fit)


def _clean(text: str) -> str:
    # PostgreSQL stores neither NUL nor half of a surrogate pair; terminals obey the controls.
    return show_controls(text).encode("utf-8", "backslashreplace").decode()
