"""Workflow elements: how a submission's classes are fitted and asked for predictions.

This runs inside the child, beside the participant's code.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

# element -> class that its module must define
CLASS_NAMES = {
    "feature_extractor": "FeatureExtractor",
    "classifier": "Classifier",
    "regressor": "Regressor",
    "calibrator": "Calibrator",
}
PREDICTORS = ("classifier", "regressor")

# The calibrator learns from a stratified tenth of the training rows that the classifier never saw.
CALIBRATION_FRACTION = 0.1
CALIBRATION_SEED = 57


class MissingClass(Exception):
    """The submission's module lacks the class that its element asks for."""


class BadPredictions(Exception):
    """What the submission predicted is not a numeric array."""


class Workflow(Protocol):
    """Fits a submission once and then predicts as often as asked."""

    def load(self) -> None: ...
    def fit(self, X: Any, y: NDArray[Any], train_is: NDArray[np.int64]) -> None: ...
    def predict(self, X: Any, n_rows: int) -> NDArray[np.float64]: ...


@dataclass
class ElementsWorkflow:
    """Feature extractor, then classifier or regressor, then calibrator; all but one optional.

    Parameters
    ----------
    package : str
        The importable package that holds the submission's modules.
    elements : tuple of str
        The elements that the dataset asks for.
    """

    package: str
    elements: tuple[str, ...]

    def load(self) -> None:
        self._parts = {
            element: self._make(element) for element in CLASS_NAMES if self._has(element)
        }
        self._predictor = self._parts[next(name for name in PREDICTORS if name in self._parts)]

    def fit(self, X: Any, y: NDArray[Any], train_is: NDArray[np.int64]) -> None:
        """Fit on the rows `train_is` of X; `y` holds the labels of just those rows."""
        features = self._fit_features(X, y, train_is)
        if not self._has("calibrator"):
            self._predictor.fit(features, y)
            return
        fit_rows, calibration_rows = _hold_out_for_calibration(y)
        self._predictor.fit(features[fit_rows], y[fit_rows])
        proba = self._predictor.predict_proba(features[calibration_rows])
        self._parts["calibrator"].fit(proba, y[calibration_rows])

    def predict(self, X: Any, n_rows: int) -> NDArray[np.float64]:
        """Return predictions of shape (n_rows,) or (n_rows, n_columns)."""
        features = (
            self._parts["feature_extractor"].transform(X) if self._extracts() else X.to_numpy()
        )
        if self._has("regressor"):
            return as_predictions(self._predictor.predict(features))
        proba = self._predictor.predict_proba(features)
        if self._has("calibrator"):
            proba = self._parts["calibrator"].predict_proba(proba)
        return as_predictions(proba)

    def _fit_features(self, X: Any, y: NDArray[Any], train_is: NDArray[np.int64]) -> Any:
        if not self._extracts():
            return X.to_numpy()[train_is]
        rows = X.iloc[train_is]
        extractor = self._parts["feature_extractor"]
        extractor.fit(rows, y)
        return extractor.transform(rows)

    def _extracts(self) -> bool:
        return self._has("feature_extractor")

    def _has(self, element: str) -> bool:
        return element in self.elements

    def _make(self, element: str) -> Any:
        module = importlib.import_module(f"{self.package}.{element}")
        name = CLASS_NAMES[element]
        if not hasattr(module, name):
            raise MissingClass(f"{element}.py has no class {name}")
        return getattr(module, name)()


@dataclass
class OwnWorkflow:
    """A dataset's own module trains and tests (`train_submission`, `test_submission`).

    Parameters
    ----------
    module : module
        The organiser's module.
    package : str
        The submission's folder, relative to the working directory, and package.
    n_train : int
        Rows of the train part; the module is given labels for all of them.
    """

    module: ModuleType
    package: str
    n_train: int

    def load(self) -> None:
        importlib.import_module(self.package)

    def fit(self, X: Any, y: NDArray[Any], train_is: NDArray[np.int64]) -> None:
        """Fit on the rows `train_is` of X; `y` holds the labels of just those rows."""
        # The module expects a label for every row, but the labels of the other rows never come
        # into this process: their places hold training labels, dealt out by a fixed rule.
        padded = y[np.arange(self.n_train) % len(y)]
        padded[train_is] = y
        self._trained = self.module.train_submission(self.package, X, padded, train_is.copy())

    def predict(self, X: Any, n_rows: int) -> NDArray[np.float64]:
        """Return the module's predictions, of shape (n_rows,) or (n_rows, n_columns)."""
        return as_predictions(self.module.test_submission(self._trained, X, np.arange(n_rows)))


def as_predictions(values: Any) -> NDArray[np.float64]:
    """Return predictions as a C-ordered float64 array.

    Raises
    ------
    BadPredictions
        When they are not real numbers in an array of one or two dimensions.
    """
    if np.ma.is_masked(values):
        raise BadPredictions("the predictions have masked, that is missing, values")
    try:
        array = np.asarray(values)
    except Exception as error:
        raise BadPredictions(f"the predictions are no array: {error}") from error
    if array.dtype.kind not in "biuf":
        raise BadPredictions(f"the predictions are of type {array.dtype}, not real numbers")
    if array.ndim not in (1, 2):
        raise BadPredictions(f"the predictions have {array.ndim} dimensions, not 1 or 2")
    # A subclass may lie about itself: what leaves is a plain array of the bytes that are there.
    return np.array(array, dtype=np.float64, order="C", subok=False, ndmin=1)


def _hold_out_for_calibration(y: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    from sklearn.model_selection import StratifiedShuffleSplit

    splitter = StratifiedShuffleSplit(
        n_splits=1, test_size=CALIBRATION_FRACTION, random_state=CALIBRATION_SEED
    )
    fit_rows, calibration_rows = next(splitter.split(np.zeros(len(y)), y))
    return fit_rows, calibration_rows
