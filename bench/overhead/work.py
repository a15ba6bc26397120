"""The folds that every contender of `bench.overhead` trains, and how to train one bare."""

from __future__ import annotations

import hashlib
import importlib.util
import pickle
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from test_files import local
from test_files.examples import IRIS, RANDOM_STATE

# Folds at once, for every contender.
SLOTS = 2

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]

# Rows of the generated dataset and trees of its forest: about 2 s a fold on a core of 2023.
LONG_ROWS, LONG_COLUMNS, LONG_CLASSES, LONG_TREES = 6000, 20, 3, 180
LONG_HELD_OUT = 0.25
# Enough rows for all classes, few enough to cost nothing beside a fold.
WARM_ROWS = 40

LONG_FOREST = f"""\
from sklearn.ensemble import RandomForestClassifier


class Classifier:
    def __init__(self):
        self.model = RandomForestClassifier(n_estimators={LONG_TREES}, random_state=57, n_jobs=1)

    def fit(self, X, y):
        self.model.fit(X, y)

    def predict_proba(self, X):
        return self.model.predict_proba(X)
"""


class Unavailable(Exception):
    """A contender cannot run here; the text goes into the table."""


@dataclass(frozen=True)
class Work:
    """A dataset, a submission, and the folds to train it on.

    Attributes
    ----------
    name : str
        `short` or `long`.
    csv_path : Path
        The dataset, split as the server splits it.
    target : str
        Name of the column to predict.
    held_out : float
        Fraction of the rows in the test part.
    submission : Path
        Folder that holds `classifier.py`.
    folds : tuple of ndarray of int64
        Positions in the train part, one array per fold.
    """

    name: str
    csv_path: Path
    target: str
    held_out: float
    submission: Path
    folds: tuple[Indices, ...]

    @property
    def warm_fold(self) -> Indices:
        """Rows for a fold that only warms up."""
        return self.folds[0][:WARM_ROWS]


@dataclass(frozen=True)
class Answer:
    """The predictions of a fold, and seconds by the name of what took them."""

    train_predictions: Floats
    test_predictions: Floats
    parts: Mapping[str, float] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """What two answers share exactly if they agree bit for bit."""
        digest = hashlib.sha256()
        for values in (self.train_predictions, self.test_predictions):
            digest.update(repr(values.shape).encode())
            digest.update(np.ascontiguousarray(values, dtype="<f8").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Timed:
    """What a contender made of some folds.

    Attributes
    ----------
    seconds : float
        From the first start to the last finish.
    digests : tuple of str
        One per fold, of the work's first folds; a contender may do fewer than all.
    parts : mapping of str to tuple of float
        Seconds of each fold by the name of what took them, where they are known.
    isolation : str
        What was seen of it from inside a fold; empty where nobody looked.
    """

    seconds: float
    digests: tuple[str, ...]
    parts: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    isolation: str = ""

    @property
    def seconds_per_fold(self) -> float:
        """Seconds that a slot needs for a fold."""
        return self.seconds * SLOTS / len(self.digests)


class Trainer:
    """Trains folds in this process, with everything at hand: the bare cost."""

    def __init__(self, work: Work, *, is_warm: bool = True) -> None:
        self.parts = split_work(work)
        self._X_train = self.parts.X_train.to_numpy()
        self._X_test = self.parts.X_test.to_numpy()
        self._make_classifier = _load_classifier(work.submission)
        if is_warm:
            self.train(work.warm_fold)  # whatever is imported at first use

    def train(self, train_is: Indices) -> Answer:
        """Fit on some rows; predict all rows of both parts."""
        started = time.perf_counter()
        model = self._make_classifier()
        model.fit(self._X_train[train_is], self.parts.y_train[train_is])
        fitted = time.perf_counter()
        train_predictions = model.predict_proba(self._X_train)
        validated = time.perf_counter()
        test_predictions = model.predict_proba(self._X_test)
        tested = time.perf_counter()
        parts = {
            "load and fit": fitted - started,
            "predict the train part": validated - fitted,
            "predict the test part": tested - validated,
        }
        return Answer(train_predictions, test_predictions, parts)


@cache
def get_trainer(work_path: str) -> Trainer:
    """Return this process's trainer for the work that was pickled there; made once."""
    return Trainer(pickle.loads(Path(work_path).read_bytes()))


def make_short(count: int) -> Work:
    """Iris, with a forest of 10 trees; random two thirds of the train part for each fold."""
    assert IRIS.held_out_test is not None
    return Work(
        name="short",
        csv_path=IRIS.data_file,
        target=IRIS.target,
        held_out=IRIS.held_out_test,
        submission=IRIS.folder / "submissions" / "forest",
        folds=make_folds(count, n_rows=round(150 * (1 - IRIS.held_out_test))),
    )


def make_long(count: int, *, folder: Path) -> Work:
    """Write a generated dataset and a forest into the folder; folds of about 2 s."""
    csv_path, submission = folder / "generated.csv", folder / "submission"
    _generate_dataset(csv_path)
    submission.mkdir()
    (submission / "classifier.py").write_text(LONG_FOREST)
    return Work(
        name="long",
        csv_path=csv_path,
        target="kind",
        held_out=LONG_HELD_OUT,
        submission=submission,
        folds=make_folds(count, n_rows=round(LONG_ROWS * (1 - LONG_HELD_OUT))),
    )


def make_folds(count: int, *, n_rows: int) -> tuple[Indices, ...]:
    """Return training rows of distinct folds: random two thirds, unsorted, the same every time."""
    random = np.random.default_rng(0)
    return tuple(random.permutation(n_rows)[: n_rows * 2 // 3] for _ in range(count))


def split_work(work: Work) -> local.Parts:
    """Split the work's dataset as the server does."""
    return local.split_standard(
        csv_path=work.csv_path,
        target_column=work.target,
        held_out_test=work.held_out,
        random_state=RANDOM_STATE,
    )


def _generate_dataset(csv_path: Path) -> None:
    import pandas as pd
    from sklearn.datasets import make_classification

    X, y = make_classification(
        n_samples=LONG_ROWS,
        n_features=LONG_COLUMNS,
        n_informative=LONG_COLUMNS // 2,
        n_classes=LONG_CLASSES,
        random_state=0,
    )
    frame = pd.DataFrame(X, columns=[f"x{number}" for number in range(LONG_COLUMNS)])
    frame["kind"] = [f"kind {label}" for label in y]
    frame.to_csv(csv_path, index=False)


def _load_classifier(submission: Path) -> Any:
    spec = importlib.util.spec_from_file_location("classifier", submission / "classifier.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Classifier
