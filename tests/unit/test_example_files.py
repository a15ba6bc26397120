"""The example datasets, their submissions, and the local training that datarun is held to."""

import importlib
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.model_selection import KFold, StratifiedKFold, StratifiedShuffleSplit

from test_files import local
from test_files.demo_report import score_predictions, split_locally
from test_files.examples import (
    DIABETES,
    DIGITS,
    EXAMPLES,
    IRIS,
    PENGUINS,
    RANDOM_STATE,
    Example,
    Task,
    list_submission_files,
)

# Guessing gives 0.4 at most, and 0 for a regression.
SANE_SCORES = {"iris": 0.9, "diabetes": 0.3, "digits": 0.85, "penguins": 0.9}
STANDARD = [example for example in EXAMPLES if example.held_out_test is not None]
SUBMISSIONS = [(example, path) for example in EXAMPLES for path in example.submissions]


def name_of(value: Example | Path) -> str:
    return value.name


def first_fold(example: Example) -> np.ndarray:
    y = split_locally(example).y_train
    kind = KFold if example.task is Task.REGRESSION else StratifiedKFold
    folds = kind(n_splits=5, shuffle=True, random_state=RANDOM_STATE)
    train_is: np.ndarray = next(folds.split(np.zeros(len(y)), y))[0]
    return train_is


def train(
    example: Example, submission: Path, train_is: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    if example.held_out_test is None:
        return local.train_specific_locally(
            folder=example.folder,
            files=example.files,
            submission_path=submission,
            train_is=train_is,
        )
    return local.train_locally(
        csv_path=example.data_file,
        target_column=example.target,
        workflow_elements=example.elements,
        submission_path=submission,
        held_out_test=example.held_out_test,
        random_state=RANDOM_STATE,
        train_is=train_is,
    )


def write_submission(folder: Path, **sources: str) -> Path:
    for element, source in sources.items():
        (folder / f"{element}.py").write_text(source)
    return folder


@pytest.mark.parametrize(("example", "submission"), SUBMISSIONS, ids=name_of)
def test_submission_trains_locally_above_chance(example: Example, submission: Path) -> None:
    parts = split_locally(example)
    train_is = first_fold(example)

    started = time.process_time()
    full_train, test = train(example, submission, train_is)
    cpu_seconds = time.process_time() - started

    assert (len(full_train), len(test)) == (len(parts.y_train), len(parts.y_test))
    assert full_train.dtype == test.dtype == np.float64
    assert score_predictions(example.task, parts, test) > SANE_SCORES[example.name]
    assert cpu_seconds < 2.0


@pytest.mark.parametrize(("example", "submission"), SUBMISSIONS, ids=name_of)
def test_submission_gives_the_same_bits_twice(example: Example, submission: Path) -> None:
    train_is = first_fold(example)

    first, second = train(example, submission, train_is), train(example, submission, train_is)

    assert [part.tobytes() for part in first] == [part.tobytes() for part in second]


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_submissions_differ_and_have_the_elements_files(example: Example) -> None:
    sources = [
        {path.name: path.read_text() for path in list_submission_files(submission)}
        for submission in example.submissions
    ]

    assert len(sources) >= 2
    assert all(set(files) == {f"{e}.py" for e in example.elements.split(",")} for files in sources)
    assert sources[0] != sources[1]


@pytest.mark.parametrize("example", STANDARD, ids=name_of)
def test_csv_parses_with_its_target(example: Example) -> None:
    table = pd.read_csv(example.data_file)

    assert example.target in table.columns
    assert not table[example.target].isna().any()


def test_iris_is_the_one_of_scikit_learn() -> None:
    table = pd.read_csv(IRIS.data_file)

    original = load_iris()
    assert np.array_equal(table.drop(columns="species").to_numpy(), original.data)
    assert table["species"].tolist() == original.target_names[original.target].tolist()


def test_diabetes_is_the_one_of_scikit_learn() -> None:
    table = pd.read_csv(DIABETES.data_file)

    original = load_diabetes(scaled=False)
    assert np.array_equal(table.drop(columns="progression").to_numpy(), original.data)
    assert np.array_equal(table["progression"].to_numpy(), original.target)


def test_digits_are_those_of_scikit_learn() -> None:
    pixels = pd.read_csv(DIGITS.folder / "pixels.csv", index_col="image")
    labels = pd.read_csv(DIGITS.folder / "labels.csv", index_col="image")["digit"]

    original = load_digits()
    assert np.array_equal(pixels.to_numpy(), original.data)
    assert np.array_equal(labels.loc[pixels.index].to_numpy(), original.target)


def test_penguins_have_texts_and_missing_values() -> None:
    table = pd.read_csv(PENGUINS.data_file)

    assert table.shape == (344, 8)
    assert set(table.select_dtypes("str")) == {"species", "island", "sex"}
    assert table.drop(columns="species").isna().to_numpy().sum() == 19


def test_specific_parts_agree_with_each_other_and_the_files() -> None:
    parts = split_locally(DIGITS)

    held_out = pd.read_csv(DIGITS.folder / "held_out.csv")["image"]
    original = load_digits()
    kept = np.setdiff1d(np.arange(len(original.target)), held_out)
    assert np.array_equal(parts.X_train, original.data[kept])
    assert np.array_equal(parts.y_train, original.target[kept])
    assert np.array_equal(parts.X_test, original.data[held_out])
    assert np.array_equal(parts.y_test, original.target[held_out])


def test_specific_split_leaves_the_example_folder_alone() -> None:
    before = sorted(path.name for path in DIGITS.folder.iterdir())

    split_locally(DIGITS)

    assert sorted(path.name for path in DIGITS.folder.iterdir()) == before


def test_specific_predicts_zero_for_a_digit_not_trained_on() -> None:
    y_train = split_locally(DIGITS).y_train

    full_train, test = train(DIGITS, DIGITS.submissions[0], np.flatnonzero(y_train != 3))

    assert full_train.shape[1] == test.shape[1] == 10
    assert not full_train[:, 3].any()
    assert full_train[:, 4].any()


def test_classes_not_trained_on_get_zero_columns() -> None:
    parts = split_locally(IRIS)

    full_train, _ = train(IRIS, IRIS.submissions[0], np.flatnonzero(parts.y_train != "versicolor"))

    assert full_train.shape == (len(parts.y_train), 3)
    assert not full_train[:, 1].any()
    assert np.allclose(full_train.sum(axis=1), 1.0)


def test_other_number_of_columns_is_refused(tmp_path: Path) -> None:
    source = """
import numpy as np
class Classifier:
    def fit(self, X, y): pass
    def predict_proba(self, X): return np.ones((len(X), 5))
"""
    submission = write_submission(tmp_path, classifier=source)

    with pytest.raises(ValueError, match="5 columns for 3 classes"):
        train(IRIS, submission, np.arange(50))


# Each element writes down what it was given.
SPY = {
    "feature_extractor": """
class FeatureExtractor:
    def fit(self, X_df, y): self.rows = list(X_df.index), list(y)
    def transform(self, X_df): return X_df[['year']].to_numpy(float) * 0 + [[len(self.rows[0])]]
""",
    "classifier": """
import numpy as np
class Classifier:
    def fit(self, X, y): self.given = [X[0, 0], len(y)]
    def predict_proba(self, X): return np.tile([*self.given, 0.0], (len(X), 1))
""",
    "calibrator": """
import numpy as np
class Calibrator:
    def fit(self, proba, y): self.given = [*proba[0, :2], len(y)]
    def predict_proba(self, proba): return np.tile(self.given, (len(proba), 1))
""",
}


def test_calibrator_is_fitted_on_a_tenth_held_out(tmp_path: Path) -> None:
    train_is = first_fold(PENGUINS)

    full_train, test = train(PENGUINS, write_submission(tmp_path, **SPY), train_is)

    y = split_locally(PENGUINS).y_train[train_is]
    splitter = StratifiedShuffleSplit(n_splits=1, test_size=0.1, random_state=57)
    nine_tenths, tenth = next(splitter.split(y, y))
    expected = [len(train_is), len(nine_tenths), len(tenth)]
    assert np.array_equal(np.unique(full_train, axis=0), [expected])
    assert np.array_equal(np.unique(test, axis=0), [expected])


def test_submission_is_loaded_fresh(tmp_path: Path) -> None:
    source = """
import numpy as np
class Regressor:
    def fit(self, X, y): pass
    def predict(self, X): return np.full(len(X), {})
"""

    answers = []
    for value in (1, 2):
        submission = write_submission(tmp_path, regressor=source.format(value))
        answers.append(train(DIABETES, submission, np.arange(9))[1][0])

    assert answers == [1.0, 2.0]
    assert [path.name for path in tmp_path.iterdir()] == ["regressor.py"]


def test_importable_name_is_a_directory_too(tmp_path: Path) -> None:
    folder = tmp_path / "with.dots" / "submission"
    folder.mkdir(parents=True)
    write_submission(folder, classifier="ANSWER = 42")

    with local.importable(folder) as name:
        module = importlib.import_module(".classifier", name)

        assert Path(name, "classifier.py").is_file()
        assert module.ANSWER == 42
