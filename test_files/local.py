"""Train a submission on a fold as a data scientist does locally, without any server.

datarun promises the predictions of this module, bit for bit. Both compute on one thread: the last
bits of a matrix product depend on how many share it.
"""

import importlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import StratifiedShuffleSplit, train_test_split
from threadpoolctl import threadpool_limits

Floats = npt.NDArray[np.float64]
Predict = Callable[[Any], Any]


@dataclass(frozen=True)
class Parts:
    """The train and the test part of a dataset, each as X and y."""

    X_train: Any
    y_train: npt.NDArray[Any]
    X_test: Any
    y_test: npt.NDArray[Any]


def train_locally(
    *,
    csv_path: Path,
    target_column: str,
    workflow_elements: str,
    submission_path: Path,
    held_out_test: float,
    random_state: int,
    train_is: npt.ArrayLike,
) -> tuple[Floats, Floats]:
    """Train a submission on a fold of a standard dataset.

    Parameters
    ----------
    csv_path : Path
        The dataset.
    target_column : str
        Name of the column to predict.
    workflow_elements : str
        Comma-separated elements, such as `feature_extractor,classifier,calibrator`.
    submission_path : Path
        Folder with one `<element>.py` per element.
    held_out_test : float
        Fraction of the rows in the test part, strictly between 0 and 1.
    random_state : int
        Seed of the split.
    train_is : array-like of int, shape (n_fold_rows,)
        0-based positions, in the train part, of the rows to train on.

    Returns
    -------
    full_train_predictions, test_predictions : numpy.ndarray of float64
        On every row of the train part and of the test part; shape (n_rows, n_classes) for a
        classifier, (n_rows,) for a regressor.
    """
    parts = split_standard(csv_path, target_column, held_out_test, random_state)
    elements = [element.strip() for element in workflow_elements.split(",")]
    rows = np.asarray(train_is)
    with importable(submission_path) as package, threadpool_limits(limits=1):
        predict = _fit_workflow(package, elements, parts.X_train, parts.y_train, rows)
        answers = predict(parts.X_train), predict(parts.X_test)
    if "classifier" not in elements:
        return _as_floats(answers[0]), _as_floats(answers[1])
    classes, seen = np.unique(parts.y_train), np.unique(parts.y_train[rows])
    return _spread(answers[0], classes, seen), _spread(answers[1], classes, seen)


def train_specific_locally(
    *, folder: Path, files: Sequence[str], submission_path: Path, train_is: npt.ArrayLike
) -> tuple[Floats, Floats]:
    """Train a submission on a fold of a dataset that brings its own `specific.py`.

    Parameters
    ----------
    folder : Path
        Where the dataset's files are; it stays as it is.
    files : sequence of str
        Names of the dataset's files, `specific.py` among them.
    submission_path : Path
        Folder with the submission's files.
    train_is : array-like of int, shape (n_fold_rows,)
        0-based positions, in the train part, of the rows to train on.

    Returns
    -------
    full_train_predictions, test_predictions : numpy.ndarray of float64
        What `test_submission` returns on every row of the train part and of the test part.
    """
    parts = split_specific(folder, files)
    with (
        importable(folder) as data_package,
        importable(submission_path) as package,
        threadpool_limits(limits=1),
    ):
        specific = _load(data_package, "specific")
        model = specific.train_submission(
            package, parts.X_train, parts.y_train, np.asarray(train_is)
        )
        return (
            _as_floats(
                specific.test_submission(model, parts.X_train, np.arange(len(parts.y_train)))
            ),
            _as_floats(specific.test_submission(model, parts.X_test, np.arange(len(parts.y_test)))),
        )


def split_standard(
    csv_path: Path, target_column: str, held_out_test: float, random_state: int
) -> Parts:
    """Split a standard dataset as the server does.

    Parameters
    ----------
    csv_path : Path
        The dataset, a CSV file with a header.
    target_column : str
        Name of the column to predict.
    held_out_test : float
        Fraction of the rows in the test part, strictly between 0 and 1.
    random_state : int
        Seed of the split.

    Returns
    -------
    Parts
        X as DataFrames without the target, y as arrays of labels.
    """
    train, test = train_test_split(
        pd.read_csv(csv_path), test_size=held_out_test, random_state=random_state
    )
    return Parts(
        X_train=train.drop(columns=target_column),
        y_train=train[target_column].to_numpy(),
        X_test=test.drop(columns=target_column),
        y_test=test[target_column].to_numpy(),
    )


def split_specific(folder: Path, files: Sequence[str]) -> Parts:
    """Split a dataset with its own `specific.py`, in a temporary copy of its files.

    Parameters
    ----------
    folder : Path
        Where the dataset's files are; it stays as it is.
    files : sequence of str
        Names of the dataset's files, `specific.py` among them.

    Returns
    -------
    Parts
        What `get_train_data` and `get_test_data` return.
    """
    with tempfile.TemporaryDirectory() as copy:
        for name in files:
            shutil.copy(folder / name, copy)
        with importable(Path(copy)) as package:
            specific = _load(package, "specific")
            specific.prepare_data(copy)
            return Parts(*specific.get_train_data(copy), *specific.get_test_data(copy))


@contextmanager
def importable(folder: Path) -> Iterator[str]:
    """Make a folder's modules importable for a while, freshly loaded.

    Parameters
    ----------
    folder : Path
        The folder.

    Yields
    ------
    str
        The folder's path, which is the name of its package too: it works as a directory and with
        `importlib.import_module('.classifier', path)`.
    """
    name = str(folder.resolve())
    package = ModuleType(name)
    package.__path__ = [name]
    importlib.invalidate_caches()
    # A .pyc is found again by the size and the second of its source: a file that a test writes
    # anew within that second would run its old code.
    writes_bytecode, sys.dont_write_bytecode = not sys.dont_write_bytecode, True
    sys.modules[name] = package
    try:
        yield name
    finally:
        sys.dont_write_bytecode = not writes_bytecode
        for module in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
            del sys.modules[module]


def _load(package: str, module: str) -> Any:
    return importlib.import_module(f".{module}", package)


def _fit_workflow(
    package: str, elements: list[str], X: Any, y: npt.NDArray[Any], rows: npt.NDArray[Any]
) -> Predict:
    features = _fit_features(package, elements, X, y, rows)
    X_fold = features(X.iloc[rows]) if "feature_extractor" in elements else features(X)[rows]
    predict = _fit_predictor(package, elements, X_fold, y[rows])
    return lambda X_any: predict(features(X_any))


def _fit_features(
    package: str, elements: list[str], X: Any, y: npt.NDArray[Any], rows: npt.NDArray[Any]
) -> Predict:
    if "feature_extractor" not in elements:
        return lambda X_any: X_any.to_numpy()
    extractor = _load(package, "feature_extractor").FeatureExtractor()
    extractor.fit(X.iloc[rows], y[rows])
    transform: Predict = extractor.transform
    return transform


def _fit_predictor(package: str, elements: list[str], X: Any, y: npt.NDArray[Any]) -> Predict:
    if "regressor" in elements:
        regressor = _load(package, "regressor").Regressor()
        regressor.fit(X, y)
        predict: Predict = regressor.predict
        return predict
    if "calibrator" in elements:
        return _fit_calibrated(package, X, y)
    return _fit_classifier(package, X, y)


def _fit_classifier(package: str, X: Any, y: npt.NDArray[Any]) -> Predict:
    classifier = _load(package, "classifier").Classifier()
    classifier.fit(X, y)
    predict_proba: Predict = classifier.predict_proba
    return predict_proba


def _fit_calibrated(package: str, X: Any, y: npt.NDArray[Any]) -> Predict:
    splitter = StratifiedShuffleSplit(n_splits=1, test_size=0.1, random_state=57)
    nine_tenths, tenth = next(splitter.split(X, y))
    predict_proba = _fit_classifier(package, X[nine_tenths], y[nine_tenths])
    calibrator = _load(package, "calibrator").Calibrator()
    calibrator.fit(predict_proba(X[tenth]), y[tenth])
    return lambda X_any: calibrator.predict_proba(predict_proba(X_any))


def _spread(answer: Any, classes: npt.NDArray[Any], seen: npt.NDArray[Any]) -> Floats:
    probabilities = _as_floats(answer)
    n_columns = probabilities.shape[1]
    if n_columns == len(classes):
        return probabilities
    if n_columns != len(seen):
        raise ValueError(
            f"{n_columns} columns for {len(classes)} classes, {len(seen)} of them seen."
        )
    spread = np.zeros((len(probabilities), len(classes)))
    spread[:, np.searchsorted(classes, seen)] = probabilities
    return spread


def _as_floats(answer: Any) -> Floats:
    return np.ascontiguousarray(answer, dtype=np.float64)
