"""The split of a standard dataset: one CSV into a train part and a test part."""

import lzma
import tarfile
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from sklearn.model_selection import train_test_split

from runapp.runner.data.labels import LabelError, Labels, class_labels

MAX_COLUMNS_SHOWN = 10
MAX_NAME_SHOWN = 40

# read_csv unpacks a file whose name says that it is compressed.
_BAD_ARCHIVES = (EOFError, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, zlib.error)


class SplitError(ValueError):
    """A dataset that cannot be split; the message is for its organiser."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """The two parts of a dataset, features and labels apart.

    Attributes
    ----------
    X_train, X_test : DataFrame, shape (n_samples, n_columns)
        Every column but the target, in the order and with the row labels that the split gives.
    y_train, y_test : ndarray, shape (n_samples,)
        The target; text as an object array of str.
    """

    X_train: pd.DataFrame
    y_train: Labels
    X_test: pd.DataFrame
    y_test: Labels


def split_csv(
    *,
    path: Path,
    target_column: str,
    held_out_test: float,
    random_state: int,
    is_classification: bool,
) -> Parts:
    """Parse a CSV and split it as `read_csv` and `train_test_split` do.

    Parameters
    ----------
    path : Path
        The CSV, with a header, in UTF-8.
    target_column : str
        The column to predict.
    held_out_test : float
        The fraction of rows in the test part, strictly between 0 and 1.
    random_state : int
        The seed of the shuffling, 0 or more.
    is_classification : bool
        Whether the target's values are classes, which must be sortable.

    Returns
    -------
    Parts
        The train part and the test part, neither of them empty.

    Raises
    ------
    SplitError
        If the file is not such a CSV, has too few rows, or its target is absent, has missing
        values or classes of mixed types.
    OSError
        If the file cannot be opened, which is not the organiser's fault.
    """
    frame = _read_csv(path)
    if target_column not in frame.columns:
        raise SplitError(
            f"The file has no target column {_show_name(target_column)}: "
            f"its columns are {_show_names(list(frame.columns))}."
        )
    if len(frame) < 2:
        raise SplitError(f"A split needs at least 2 rows, the number of rows is {len(frame)}.")
    _check_target(frame[target_column], is_classification=is_classification)
    train, test = _split_rows(frame, held_out_test=held_out_test, random_state=random_state)
    return Parts(
        X_train=train.drop(columns=target_column),
        y_train=train[target_column].to_numpy(),
        X_test=test.drop(columns=target_column),
        y_test=test[target_column].to_numpy(),
    )


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        with warnings.catch_warnings():
            # A column of mixed types is parsed all the same, whatever warnings are made into.
            warnings.simplefilter("ignore")
            return pd.read_csv(path)
    except pd.errors.EmptyDataError as error:
        raise SplitError("The file is empty: a CSV with a header was expected.") from error
    except UnicodeDecodeError as error:
        raise SplitError("The file is not UTF-8 text: save the CSV in UTF-8.") from error
    except (*_BAD_ARCHIVES, ImportError) as error:
        raise SplitError("The file's name says that it is compressed: send a plain CSV.") from error
    except ValueError as error:
        raise SplitError(f"The file is not a CSV: {_show_reason(error, path=path)}") from error
    except OSError as error:
        # A damaged gzip or bzip2 is an OSError too, but not one of the system's.
        if error.errno is not None:
            raise
        raise SplitError("The file's name says that it is compressed: send a plain CSV.") from error


def _check_target(target: pd.Series, *, is_classification: bool) -> None:
    n_missing = int(target.isna().sum())
    if n_missing:
        raise SplitError(
            f"The target column misses its value in {n_missing} of {len(target)} rows."
        )
    if not is_classification:
        if not pd.api.types.is_numeric_dtype(target.dtype):
            raise SplitError("The target column does not hold numbers, which a regressor needs.")
        return
    try:
        class_labels(target.to_numpy())
    except LabelError as error:
        raise SplitError(f"The target column cannot be used as classes. {error}") from error


def _split_rows(
    frame: pd.DataFrame, *, held_out_test: float, random_state: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    try:
        train, test = train_test_split(frame, test_size=held_out_test, random_state=random_state)
    except ValueError as error:
        raise SplitError(
            f"{len(frame)} rows cannot be split with {held_out_test} of them held out: "
            "one part would be empty."
        ) from error
    return train, test


def _show_reason(error: Exception, *, path: Path) -> str:
    reason = " ".join(str(error).replace(str(path), path.name).split())
    return f"{reason.removesuffix('.')}."


def _show_names(names: list[str]) -> str:
    shown = ", ".join(_show_name(name) for name in names[:MAX_COLUMNS_SHOWN])
    n_more = len(names) - MAX_COLUMNS_SHOWN
    return f"{shown} and {n_more} more" if n_more > 0 else shown


def _show_name(name: str) -> str:
    return repr(name if len(name) <= MAX_NAME_SHOWN else f"{name[:MAX_NAME_SHOWN]}...")
