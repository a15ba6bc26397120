"""What crosses the border between a worker and the process that runs untrusted code.

A job travels as bytes (`FoldJob.pack`, `SplitJob.pack`) in an anonymous file whose descriptor the
keeper hands to the child; what comes back are frames on a socket (`FrameKind`). Nothing that
comes back is ever unpickled.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import IntEnum, StrEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


class Outcome(StrEnum):
    """How a run ended. Values of `THEIRS` are the public error codes of the same name."""

    TESTED = "tested"
    SUBMISSION_ERROR = "submission_error"
    BAD_PREDICTIONS = "bad_predictions"
    WALL_LIMIT = "wall_limit"
    CPU_LIMIT = "cpu_limit"
    MEMORY_LIMIT = "memory_limit"
    OUTPUT_LIMIT = "output_limit"
    KILLED = "killed"
    STOPPED = "stopped"  # the caller asked for it
    NOT_STARTED = "not_started"  # ours: there was no child, or it was killed before it began
    SETUP_FAILED = "setup_failed"  # ours: our own part of the child failed, and would again
    LOST = "lost"  # ours: killed from outside, or the keeper died

    @property
    def is_ours(self) -> bool:
        return self in (Outcome.NOT_STARTED, Outcome.SETUP_FAILED, Outcome.LOST)


class FrameKind(IntEnum):
    """The first byte of a frame; eight bytes of length and the payload follow."""

    STARTED = 1  # our code's last word: participant code runs after the leave that it waits for
    FITTED = 2
    TRAIN_PREDICTIONS = 3
    TEST_PREDICTIONS = 4
    FAILED = 5
    X_TRAIN = 6
    Y_TRAIN = 7
    X_TEST = 8
    Y_TEST = 9
    SPLIT = 10


FRAME_HEADER = struct.Struct("<BQ")
# Private bytes and CPU seconds of the child's setup, which are not the run's.
STARTED_PAYLOAD = struct.Struct("<Qd")

# The folders of a run's scratch folder.
CODE_FOLDER = "submission"
KIT_FOLDER = "kit"
DATA_FOLDER = "data"

# The longest message between a worker and its keeper.
MAX_REQUEST_BYTES = 2**16
# The kernel passes no more in one message: unix(7), SCM_MAX_FD.
MAX_DESCRIPTORS = 253


class DataForm(StrEnum):
    """How a part's X is stored."""

    FRAME = "frame"  # columns in a container, memory-mapped (data/dataframes.py)
    PICKLE = "pickle"  # whatever an organiser's module returned; only a child opens it


@dataclass(frozen=True)
class Limits:
    """The limits of one run; the units are in the names, `mb` is 1024 * 1024 bytes."""

    wall_seconds: float
    cpu_seconds: float
    memory_mb: float
    processes: int
    scratch_mb: float
    output_kb: float

    @property
    def memory_bytes(self) -> int:
        return int(self.memory_mb * 2**20)

    @property
    def output_bytes(self) -> int:
        return int(self.output_kb * 1024)


@dataclass(frozen=True)
class Usage:
    """What a run used, per stage; None is "not measured", never 0.

    Seconds for times and CPU, bytes for peaks.
    """

    train_seconds: float | None = None
    validation_seconds: float | None = None
    test_seconds: float | None = None
    train_cpu_seconds: float | None = None
    test_cpu_seconds: float | None = None
    train_peak_bytes: int | None = None
    test_peak_bytes: int | None = None
    measured_by: str | None = None


@dataclass(frozen=True)
class FoldJob:
    """One submission fold, complete but for X, whose descriptors travel apart.

    Parameters
    ----------
    files : mapping of str to bytes
        The submission's files.
    elements : tuple of str
        The workflow's elements; unused when the dataset brings its own module.
    kit_files, kit_module : mapping of str to bytes, str or None
        The dataset's own Python files and the one that has the five functions.
    form : DataForm
        How both X are stored.
    train_is : ndarray of int64, shape (n_train_rows,)
        Rows of the train part to fit on.
    labels : bytes
        The labels of those rows, in the same order, as a column container (data/array_file.py).
    n_train, n_test : int
        Rows of the two parts.
    test_bytes : int
        The size of the X of the test part, which is mapped later.
    n_classes : int or None
        Columns of the predictions; None when they are used as returned (own module) or when
        there is one value per row (regressor).
    class_columns : tuple of int
        Where the labels among the training rows stand among the classes.
    is_own_workflow : bool
        True when the dataset's own module trains and predicts.
    """

    files: Mapping[str, bytes]
    elements: tuple[str, ...]
    kit_files: Mapping[str, bytes]
    kit_module: str | None
    form: DataForm
    train_is: NDArray[np.int64]
    labels: bytes
    n_train: int
    n_test: int
    test_bytes: int
    n_classes: int | None
    class_columns: tuple[int, ...]
    limits: Limits
    max_predictions_bytes: int

    @property
    def is_own_workflow(self) -> bool:
        return self.kit_module is not None

    def pack(self) -> bytes:
        """Return the job as bytes."""
        header = {
            "elements": list(self.elements),
            "kit_module": self.kit_module,
            "form": self.form,
            "n_train": self.n_train,
            "n_test": self.n_test,
            "test_bytes": self.test_bytes,
            "n_classes": self.n_classes,
            "class_columns": list(self.class_columns),
            "limits": asdict(self.limits),
            "max_predictions_bytes": self.max_predictions_bytes,
        }
        return _pack(
            header,
            blobs={"train_is": self.train_is.astype("<i8").tobytes(), "labels": self.labels},
            folders={"files": self.files, "kit_files": self.kit_files},
        )

    @classmethod
    def unpack(cls, content: bytes) -> Self:
        """Return the job that `pack` made bytes of."""
        header, blobs, folders = _unpack(content)
        return cls(
            files=folders["files"],
            elements=tuple(header["elements"]),
            kit_files=folders["kit_files"],
            kit_module=header["kit_module"],
            form=DataForm(header["form"]),
            train_is=np.frombuffer(blobs["train_is"], dtype="<i8"),
            labels=blobs["labels"],
            n_train=header["n_train"],
            n_test=header["n_test"],
            test_bytes=header["test_bytes"],
            n_classes=header["n_classes"],
            class_columns=tuple(header["class_columns"]),
            limits=Limits(**header["limits"]),
            max_predictions_bytes=header["max_predictions_bytes"],
        )


@dataclass(frozen=True)
class SplitJob:
    """The splitting of a dataset, by its own module or as one CSV.

    Parameters
    ----------
    files : mapping of str to str
        Names of the dataset's files; their contents lie in the scratch folder's `data`.
    kit_module : str or None
        The file that has the five functions; None for a CSV.
    held_out_test : float or None
        The fraction held out as the test part (CSV).
    """

    files: tuple[str, ...]
    kit_module: str | None
    target_column: str
    is_classification: bool
    held_out_test: float | None
    random_state: int | None
    limits: Limits

    def pack(self) -> bytes:
        """Return the job as bytes."""
        return _pack(asdict(self), blobs={}, folders={})

    @classmethod
    def unpack(cls, content: bytes) -> Self:
        """Return the job that `pack` made bytes of."""
        header, _, _ = _unpack(content)
        limits = Limits(**header.pop("limits"))
        return cls(**{**header, "files": tuple(header["files"])}, limits=limits)


@dataclass(frozen=True)
class RunResult:
    """What came of a run.

    Parameters
    ----------
    sentence : str
        What happened and which limit was met; empty for a run that ended well.
    traceback : str
        The submission's own traceback, as it told it.
    output : str
        What the submission printed, head and tail.
    is_before_fit : bool, optional
        Whether the submission told of a failure before its `fit` was called: any fold of the
        same code would fail like that.
    """

    outcome: Outcome
    sentence: str
    traceback: str
    output: str
    usage: Usage
    is_before_fit: bool = False


@dataclass(frozen=True)
class Confinement:
    """What keeps runs where they belong, as an operator reads it.

    Parameters
    ----------
    level : str
        What separates a run from its host.
    mechanisms : mapping of str to str
        What is to keep each promise, by the promise's name (selftest/promises.py).
    measured_by : str
        How usage is measured.
    reasons : tuple of str
        Why it is not better.
    """

    level: str
    mechanisms: Mapping[str, str]
    measured_by: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class StageReport:
    """A stage that a fold has passed, and its predictions where it made some."""

    kind: FrameKind
    usage: Usage
    predictions: NDArray[np.float64] | None = None


def _pack(
    header: dict[str, Any],
    *,
    blobs: Mapping[str, bytes],
    folders: Mapping[str, Mapping[str, bytes]],
) -> bytes:
    pieces: list[bytes] = []
    layout: list[tuple[str, str, int]] = []
    for name, blob in blobs.items():
        layout.append(("", name, len(blob)))
        pieces.append(blob)
    for folder, files in folders.items():
        for name, blob in files.items():
            layout.append((folder, name, len(blob)))
            pieces.append(blob)
    text = json.dumps({"header": header, "layout": layout, "folders": list(folders)}).encode()
    return b"".join([struct.pack("<Q", len(text)), text, *pieces])


def _unpack(
    content: bytes,
) -> tuple[dict[str, Any], dict[str, bytes], dict[str, dict[str, bytes]]]:
    (length,) = struct.unpack_from("<Q", content)
    text = json.loads(content[8 : 8 + length])
    blobs: dict[str, bytes] = {}
    folders: dict[str, dict[str, bytes]] = {name: {} for name in text["folders"]}
    offset = 8 + length
    for folder, name, size in text["layout"]:
        piece = content[offset : offset + size]
        offset += size
        (folders[folder] if folder else blobs)[name] = piece
    return text["header"], blobs, folders
