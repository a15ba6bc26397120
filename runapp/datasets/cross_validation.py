"""Cross-validation folds of a dataset's train part, by scikit-learn's splitters."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runapp.common.exceptions import Conflict, InvalidInput, NotFound, StorageError
from runapp.models import RawData
from runapp.runner.data import array_file
from runapp.storage import Kind

Indices = NDArray[np.int64]


def make_folds(
    *,
    raw_data: RawData,
    n_splits: int,
    random_state: int,
    stratify: bool | None,
    shuffle: bool,
) -> Iterator[tuple[Indices, Indices]]:
    """Return the (train, test) row positions of each fold of the train part.

    Parameters
    ----------
    n_splits : int
        Number of folds, 2 or more.
    random_state : int
        Seed of the shuffle; without effect when `shuffle` is false.
    stratify : bool or None
        Keep the classes' proportions; None means "when the dataset has classes".

    Raises
    ------
    Conflict
        When the dataset has not been split.
    InvalidInput
        When scikit-learn refuses: fewer rows, or fewer of every class, than folds.

    Notes
    -----
    scikit-learn's `StratifiedKFold` and `KFold`.
    """
    # Its import takes about a second: paid by the first call, not by every web process.
    from sklearn.model_selection import KFold, StratifiedKFold

    if raw_data.state != RawData.State.READY or raw_data.parts is None:
        raise Conflict("This dataset has not been split yet.")
    y = _read_labels(raw_data, digest=raw_data.parts["y_train"])
    is_stratified = raw_data.classes is not None if stratify is None else stratify
    splitter = (StratifiedKFold if is_stratified else KFold)(
        n_splits=n_splits, shuffle=shuffle, random_state=random_state if shuffle else None
    )
    folds = splitter.split(np.zeros(len(y)), y)
    with warnings.catch_warnings():
        # A class with fewer rows than folds is the organiser's choice.
        warnings.simplefilter("ignore", UserWarning)
        try:
            return chain([next(folds)], folds)
        except ValueError as error:
            raise InvalidInput(str(error), field="n_splits") from error


def _read_labels(raw_data: RawData, *, digest: str) -> NDArray[Any]:
    try:
        return array_file.read_column(raw_data.bin.read(kind=Kind.LABELS, digest=digest))
    except StorageError:
        if RawData.objects.filter(pk=raw_data.pk).exists():
            raise
        raise NotFound("This dataset has just been deleted.") from None
