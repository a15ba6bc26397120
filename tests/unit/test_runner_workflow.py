"""Workflow elements against a training on one's own machine (`test_files/local.py`)."""

from __future__ import annotations

import importlib
import io
import tempfile
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedShuffleSplit
from threadpoolctl import threadpool_limits

from runapp.runner.child.workflow import (
    BadPredictions,
    ElementsWorkflow,
    MissingClass,
    OwnWorkflow,
    as_predictions,
)
from runapp.runner.data import array_file, dataframes
from test_files import local
from test_files.examples import DIABETES, DIGITS, IRIS, PENGUINS, RANDOM_STATE, Example

FIT_NUMBERS = """
    class FeatureExtractor:
        def fit(self, X_df, y):
            numbers = X_df.select_dtypes("number")
            self.means, self.names = numbers.mean(), list(numbers.columns)
            self.shift = len(y)

        def transform(self, X_df):
            return (X_df[self.names].fillna(self.means) - self.means).to_numpy() * self.shift
"""
CALIBRATOR = """
    from sklearn.linear_model import LogisticRegression

    class Calibrator:
        def fit(self, proba, y):
            self.model = LogisticRegression().fit(proba, y)

        def predict_proba(self, proba):
            return self.model.predict_proba(proba)
"""
# Classes whose `fit` keeps what it was given, on themselves.
RECORDER = """
    import numpy as np

    class Recorder:
        def fit(self, X, y):
            type(self).fitted = X, y

        def transform(self, X):
            return X.to_numpy()

        def predict_proba(self, X):
            return np.asarray(X)

        predict = predict_proba

    class FeatureExtractor(Recorder): pass
    class Classifier(Recorder): pass
    class Regressor(Recorder): pass
    class Calibrator(Recorder): pass
"""


def write_submission(folder: Path, files: Mapping[str, str]) -> Path:
    folder.mkdir(parents=True)
    for name, code in files.items():
        (folder / name).write_text(textwrap.dedent(code))
    return folder


def read_submission(example: Example, name: str) -> dict[str, str]:
    return {
        path.name: path.read_text() for path in (example.folder / "submissions" / name).glob("*.py")
    }


def store_and_map(X: pd.DataFrame) -> pd.DataFrame:
    with tempfile.TemporaryFile() as file:
        dataframes.write_frame(X, file)
        file.flush()
        return dataframes.map_frame(file.fileno())


def store_and_read(y: NDArray[Any]) -> NDArray[Any]:
    file = io.BytesIO()
    array_file.write_column(y, file)
    return array_file.read_column(file.getvalue())


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """A package whose four modules hold recording classes, and those classes by name."""
    names = ("feature_extractor", "classifier", "regressor", "calibrator")
    folder = write_submission(tmp_path / "code", {f"{name}.py": RECORDER for name in names})
    with local.importable(folder) as package:
        classes = {
            name: getattr(
                importlib.import_module(f"{package}.{name}"), name.title().replace("_", "")
            )
            for name in names
        }
        yield package, classes


COMBINATIONS = {
    "classifier": (IRIS, "classifier", read_submission(IRIS, "forest")),
    "feature_extractor,classifier": (
        IRIS,
        "feature_extractor,classifier",
        {**read_submission(IRIS, "logistic"), "feature_extractor.py": FIT_NUMBERS},
    ),
    "classifier,calibrator": (
        IRIS,
        "classifier,calibrator",
        {**read_submission(IRIS, "forest"), "calibrator.py": CALIBRATOR},
    ),
    "feature_extractor,classifier,calibrator": (
        PENGUINS,
        PENGUINS.elements,
        read_submission(PENGUINS, "forest"),
    ),
    "feature_extractor,classifier without the calibrator": (
        PENGUINS,
        "feature_extractor,classifier",
        read_submission(PENGUINS, "logistic"),
    ),
    "regressor": (DIABETES, "regressor", read_submission(DIABETES, "boosting")),
    "feature_extractor,regressor": (
        DIABETES,
        "feature_extractor,regressor",
        {**read_submission(DIABETES, "ridge"), "feature_extractor.py": FIT_NUMBERS},
    ),
    "in another order": (
        DIABETES,
        "regressor,feature_extractor",
        {**read_submission(DIABETES, "ridge"), "feature_extractor.py": FIT_NUMBERS},
    ),
}


@pytest.mark.parametrize("name", COMBINATIONS)
def test_elements_predict_as_a_local_training_bit_for_bit(name: str, tmp_path: Path) -> None:
    example, elements, files = COMBINATIONS[name]
    assert example.held_out_test is not None
    submission = write_submission(tmp_path / "code", files)
    parts = local.split_standard(
        example.data_file, example.target, example.held_out_test, RANDOM_STATE
    )
    train_is = np.random.default_rng(0).permutation(len(parts.y_train))[::2]
    expected = local.train_locally(
        csv_path=example.data_file,
        target_column=example.target,
        workflow_elements=elements,
        submission_path=submission,
        held_out_test=example.held_out_test,
        random_state=RANDOM_STATE,
        train_is=train_is,
    )

    with local.importable(submission) as package:
        workflow = ElementsWorkflow(package=package, elements=tuple(elements.split(",")))
        X_train = store_and_map(parts.X_train)
        workflow.load()
        workflow.fit(X_train, store_and_read(parts.y_train[train_is]), train_is)
        predicted = [workflow.predict(X, len(X)) for X in (X_train, store_and_map(parts.X_test))]

    for ours, theirs in zip(predicted, expected, strict=True):
        assert ours.tobytes() == theirs.tobytes()
        assert ours.shape == theirs.shape


@pytest.mark.parametrize("submission", ["bayes", "trees"])
def test_own_module_predicts_as_a_local_training_bit_for_bit(submission: str) -> None:
    folder = DIGITS.folder / "submissions" / submission
    parts = local.split_specific(DIGITS.folder, DIGITS.files)
    train_is = np.arange(0, len(parts.y_train), 3)
    expected = local.train_specific_locally(
        folder=DIGITS.folder, files=DIGITS.files, submission_path=folder, train_is=train_is
    )

    with (
        local.importable(DIGITS.folder) as data,
        local.importable(folder) as package,
        threadpool_limits(limits=1),  # as in a keeper
    ):
        kit = importlib.import_module(".specific", data)
        workflow = OwnWorkflow(module=kit, package=package, n_train=len(parts.y_train))
        workflow.load()
        workflow.fit(parts.X_train, parts.y_train[train_is], train_is)
        predicted = [workflow.predict(X, len(X)) for X in (parts.X_train, parts.X_test)]

    for ours, theirs in zip(predicted, expected, strict=True):
        assert ours.tobytes() == theirs.tobytes()


class Kit:
    """An organiser's module that keeps what it was given."""

    def train_submission(self, path: str, X: Any, y: Any, train_is: Any) -> str:
        self.given = path, X, y.copy(), train_is.copy()
        train_is[:] = 0
        return "model"

    def test_submission(self, model: str, X: Any, test_is: Any) -> Any:
        self.tested = model, X, test_is
        return np.zeros(len(test_is))


def test_own_module_gets_training_labels_in_the_place_of_all_others() -> None:
    kit, train_is = Kit(), np.array([4, 1, 2])
    workflow = OwnWorkflow(module=kit, package="math", n_train=8)  # type: ignore[arg-type]

    workflow.load()
    workflow.fit("X", np.array(["d", "a", "b"], dtype=object), train_is)

    path, X, y, given_is = kit.given
    assert (path, X) == ("math", "X")
    # By row: the training labels in turn, and each of them in its own place.
    assert y.tolist() == ["d", "a", "b", "d", "d", "b", "d", "a"]
    assert y.dtype == object
    assert given_is.tolist() == train_is.tolist() == [4, 1, 2]


def test_own_module_is_asked_for_every_row() -> None:
    kit = Kit()
    workflow = OwnWorkflow(module=kit, package="math", n_train=2)  # type: ignore[arg-type]
    workflow.fit("X", np.array([1.0]), np.array([0]))

    predicted = workflow.predict("X_test", 3)

    assert predicted.tolist() == [0, 0, 0]
    assert (kit.tested[0], kit.tested[1], kit.tested[2].tolist()) == ("model", "X_test", [0, 1, 2])


Y_CASES = {
    "text": np.array(["b", "a", "b", "a"], dtype=object),
    "unicode": np.array(["b", "a", "b", "a"]),
    "integers": np.array([3, 1, 3, 1]),
    "booleans": np.array([True, False, True, False]),
    "floats": np.array([0.5, 1.5, 0.5, 1.5]),
}


@pytest.mark.parametrize("name", Y_CASES)
@pytest.mark.parametrize("element", ["classifier", "regressor"])
def test_fit_gets_y_as_a_plain_array_of_the_training_labels(
    name: str, element: str, recorder: tuple[str, dict[str, Any]]
) -> None:
    package, classes = recorder
    X, train_is = pd.DataFrame({"a": range(6), "b": range(6)}), np.array([5, 0, 3, 2])

    workflow = ElementsWorkflow(package=package, elements=("feature_extractor", element))
    workflow.load()
    workflow.fit(X, store_and_read(Y_CASES[name]), train_is)

    for class_name in ("feature_extractor", element):
        given_X, y = classes[class_name].fitted
        assert type(y) is np.ndarray
        assert y.dtype == Y_CASES[name].dtype
        assert y.tolist() == Y_CASES[name].tolist()
        assert np.asarray(given_X)[:, 0].tolist() == [5, 0, 3, 2]
    assert type(classes["feature_extractor"].fitted[0]) is pd.DataFrame
    assert type(classes[element].fitted[0]) is np.ndarray


def test_calibrator_learns_from_a_stratified_tenth_that_the_classifier_never_saw(
    recorder: tuple[str, dict[str, Any]],
) -> None:
    package, classes = recorder
    X = pd.DataFrame({"row": np.arange(200), "other": 0})
    train_is = np.random.default_rng(0).permutation(200)[:100]
    y = np.where(train_is % 4 == 0, "rare", "often").astype(object)

    workflow = ElementsWorkflow(package=package, elements=("classifier", "calibrator"))
    workflow.load()
    workflow.fit(X, y, train_is)

    splitter = StratifiedShuffleSplit(n_splits=1, test_size=0.1, random_state=57)
    nine_tenths, tenth = next(splitter.split(np.zeros(100), y))
    for name, rows in (("classifier", nine_tenths), ("calibrator", tenth)):
        given_X, given_y = classes[name].fitted
        assert given_X[:, 0].tolist() == train_is[rows].tolist()
        assert given_y.tolist() == y[rows].tolist()
    assert len(tenth) == 10
    assert sum(y[tenth] == "rare") in (2, 3)


@pytest.mark.parametrize(
    ("files", "error", "sentence"),
    [
        ({"classifier.py": ""}, MissingClass, r"classifier\.py has no class Classifier"),
        ({"classifier.py": "Classifier = 3"}, TypeError, "not callable"),
        ({"classifier.py": "def"}, SyntaxError, "invalid syntax"),
        ({}, ModuleNotFoundError, "classifier"),
    ],
)
def test_load_of_a_broken_submission_raises(
    files: dict[str, str], error: type[Exception], sentence: str, tmp_path: Path
) -> None:
    folder = write_submission(tmp_path / "code", files)

    with local.importable(folder) as package, pytest.raises(error, match=sentence):
        ElementsWorkflow(package=package, elements=("classifier",)).load()


class Liar(np.ndarray):
    """An array that says of itself what is not so."""

    shape = (7, 7)  # type: ignore[assignment]
    ndim = 5  # type: ignore[assignment]

    def __array__(self, *args: Any, **names: Any) -> Any:
        raise AssertionError("asked for an array of another kind")

    def __len__(self) -> int:
        return 99

    def astype(self, *args: Any, **names: Any) -> Any:
        raise AssertionError("asked to convert itself")

    def tobytes(self, *args: Any) -> bytes:
        return b"lies"


class AsksForArray:
    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.array([0.25, 0.75]).view(Liar)


GOOD = {
    "list": ([1, 2], [1.0, 2.0]),
    "list of lists": ([[1, 2], [3, 4]], [[1.0, 2.0], [3.0, 4.0]]),
    "tuple": ((0.5, 0.25), [0.5, 0.25]),
    "boolean": (np.array([True, False]), [1.0, 0.0]),
    "float16": (np.array([0.1], dtype=np.float16), [0.0999755859375]),
    "float32": (np.array([0.1], dtype=np.float32), [0.10000000149011612]),
    "long double": (np.array([0.5], dtype=np.longdouble), [0.5]),
    "unsigned": (np.array([2**64 - 1], dtype=np.uint64), [1.8446744073709552e19]),
    "integer beyond 2**53": (np.array([2**53 + 1]), [9007199254740992.0]),
    "another byte order": (np.array([1.5, -2.0], dtype=">f8"), [1.5, -2.0]),
    "Fortran order": (np.asfortranarray([[1.0, 2.0], [3.0, 4.0]]), [[1.0, 2.0], [3.0, 4.0]]),
    "strided": (np.arange(6.0)[::2], [0.0, 2.0, 4.0]),
    "DataFrame": (pd.DataFrame({"a": [0.1], "b": [0.9]}), [[0.1, 0.9]]),
    "Series": (pd.Series([0.1, 0.9], index=[5, 3]), [0.1, 0.9]),
    "matrix": (np.asmatrix([[1.0, 2.0]]), [[1.0, 2.0]]),
    "masked array without a mask": (np.ma.array([1.0, 2.0]), [1.0, 2.0]),
    "lying subclass": (np.array([[0.5, 0.5]]).view(Liar), [[0.5, 0.5]]),
    "something that makes a lying array": (AsksForArray(), [0.25, 0.75]),
    "no rows": (np.zeros((0, 3)), []),
    "NaN, which is looked for outside": (np.array([np.inf]), [np.inf]),
}


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("name", GOOD)
def test_as_predictions_of_real_numbers_is_a_plain_array(name: str) -> None:
    values, expected = GOOD[name]

    predictions = as_predictions(values)

    assert type(predictions) is np.ndarray
    assert predictions.dtype == np.float64
    assert predictions.dtype.isnative
    assert predictions.flags.c_contiguous
    assert predictions.tolist() == expected


BAD = {
    "None": (None, "type object"),
    "complex": (np.array([1j]), "type complex128"),
    "object": (np.array([1.0, "a"], dtype=object), "type object"),
    "text": (np.array(["a", "b"]), "type <U1"),
    "bytes": (b"12345678", r"type \|S8"),
    "generator": ((value for value in (1.0, 2.0)), "type object"),
    "dictionary": ({"a": 1.0}, "type object"),
    "dates": (np.array(["2020-01-01"], dtype="datetime64[D]"), "type datetime64"),
    "structure": (np.zeros(2, dtype=[("a", "f8")]), "real numbers"),
    "masked": (np.ma.array([1.0, 2.0], mask=[False, True]), "masked"),
    "sparse matrix": (scipy.sparse.csr_array(np.eye(3)), "type object"),
    "ragged": ([[1.0], [1.0, 2.0]], "no array"),
    "number": (1.0, "0 dimensions"),
    "0-d": (np.array(1.0), "0 dimensions"),
    "3-d": (np.zeros((2, 2, 2)), "3 dimensions"),
    "empty list of lists of lists": ([[[]]], "3 dimensions"),
    "text in a DataFrame": (pd.DataFrame({"a": ["x"]}), "type object"),
}


@pytest.mark.parametrize("name", BAD)
def test_as_predictions_of_anything_else_is_refused(name: str) -> None:
    values, sentence = BAD[name]

    with pytest.raises(BadPredictions, match=sentence):
        as_predictions(values)


def test_as_predictions_of_what_raises_is_refused_with_its_text() -> None:
    class Raises:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            raise RuntimeError("not today")

    with pytest.raises(BadPredictions, match="no array: not today"):
        as_predictions(Raises())
