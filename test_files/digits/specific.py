"""What is specific to the digits: three files instead of one table, and their own split.

`pixels.csv` has one row per image, `labels.csv` the digit of each image in another order,
`held_out.csv` the images of the test part.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

N_DIGITS = 10


def prepare_data(path: str) -> None:
    """Join the files and write the two parts beside them."""
    folder = Path(path)
    labels = pd.read_csv(folder / "labels.csv")
    images = pd.read_csv(folder / "pixels.csv").merge(labels, on="image", validate="one_to_one")
    is_held_out = images["image"].isin(pd.read_csv(folder / "held_out.csv")["image"])
    images[~is_held_out].to_csv(folder / "train.csv", index=False)
    images[is_held_out].to_csv(folder / "test.csv", index=False)


def get_train_data(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels, (n_train, 64), and the digits of the train part."""
    return _read_part(Path(path) / "train.csv")


def get_test_data(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels, (n_test, 64), and the digits of the test part."""
    return _read_part(Path(path) / "test.csv")


def train_submission(
    module_path: str, X: np.ndarray, y: np.ndarray, train_is: np.ndarray
) -> tuple[Any, np.ndarray]:
    """Fit the submission's classifier; keep the digits it has seen."""
    classifier = import_module(".classifier", module_path).Classifier()
    classifier.fit(X[train_is], y[train_is])
    return classifier, np.unique(y[train_is])


def test_submission(
    trained_model: tuple[Any, np.ndarray], X: np.ndarray, test_is: np.ndarray
) -> np.ndarray:
    """Return one column per digit, (n, 10), zeros for a digit the classifier never saw."""
    classifier, seen_digits = trained_model
    probabilities = np.zeros((len(test_is), N_DIGITS))
    probabilities[:, seen_digits] = classifier.predict_proba(X[test_is])
    return probabilities


def _read_part(path: Path) -> tuple[np.ndarray, np.ndarray]:
    images = pd.read_csv(path)
    return images.drop(columns=["image", "digit"]).to_numpy(), images["digit"].to_numpy()
