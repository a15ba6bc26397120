"""Labels: the y that is trained on, and the classes in it."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[Any]

_FLOAT = np.dtype(np.float64)


class LabelError(ValueError):
    """Labels that cannot be trained on; the message is for the organiser."""


def class_labels(y_train: Labels) -> list[Any]:
    """List the distinct labels in numpy's sort order.

    Parameters
    ----------
    y_train : ndarray, shape (n_samples,)
        The labels of the whole train part.

    Returns
    -------
    list of bool, int, float or str
        Values that JSON can hold, without repetition.

    Raises
    ------
    LabelError
        If the labels are of mixed types, or one is missing or infinite.
    """
    _check_cells(y_train)
    classes: list[Any] = np.unique(y_train).tolist()
    # JSON has neither NaN nor infinity.
    if any(isinstance(label, float) and not math.isfinite(label) for label in classes):
        raise LabelError("A class label is missing or infinite.")
    return classes


def as_labels(values: object) -> Labels:
    """Turn what an organiser's module returned as y into an array that can be trained on.

    Parameters
    ----------
    values : array-like, shape (n_samples,)
        Numbers or strings; a list, a Series and an array all do.

    Returns
    -------
    ndarray, shape (n_samples,)
        Booleans, integers, floats or strings, of native byte order; numbers in an object array
        become an array of numbers. Infinite numbers are kept.

    Raises
    ------
    LabelError
        If it is not a 1-d array of at least one value, all numbers or all strings, none missing.
    """
    labels = _to_array(values)
    if labels.ndim != 1:
        raise LabelError(f"y must be a 1-d array, its shape is {labels.shape}.")
    if not labels.size:
        raise LabelError("y is empty.")
    if labels.dtype.kind in "OT":
        return _unbox_labels(labels.astype(object))
    if labels.dtype.kind not in "biufU":
        raise LabelError(f"y must hold numbers or strings, not {labels.dtype}.")
    if labels.dtype.kind == "f":
        _check_none_missing(np.isnan(labels))
    return _as_native(labels)


def _to_array(values: object) -> Labels:
    if np.ma.is_masked(values):
        raise LabelError("y has masked, that is missing, values.")
    # numpy would silently make strings of the numbers in [1, "a"].
    dtype = object if isinstance(values, (list, tuple)) else None
    try:
        return np.asarray(values, dtype=dtype)
    except (TypeError, ValueError) as error:
        raise LabelError(f"y is not an array of labels but {type(values).__name__}.") from error


def _unbox_labels(labels: Labels) -> Labels:
    """Give numbers a dtype of their own; strings stay objects. There is at least one label."""
    _check_cells(labels)
    if isinstance(labels[0], str):
        # The plain type, where a subclass such as numpy's came.
        labels[:] = [str(label) for label in labels]
        return labels
    unboxed = np.array(labels.tolist())
    is_exact = unboxed.dtype.kind in "biu" or any(isinstance(label, float) for label in labels)
    # numpy makes floats or objects of integers that no integer type holds.
    if not is_exact or unboxed.dtype.kind == "O":
        raise LabelError("A number in y does not fit into 64 bits.")
    return unboxed


def _check_cells(labels: Labels) -> None:
    """Check that the cells of an object array are all booleans, all numbers or all strings."""
    if labels.dtype.kind != "O":
        return
    _check_none_missing([label is None or _is_nan(label) for label in labels])
    cell_types = set(map(type, labels))
    if len({_name_family(cell_type) for cell_type in cell_types}) > 1:
        names = sorted(cell_type.__name__ for cell_type in cell_types)
        raise LabelError(f"The labels are of mixed types: {', '.join(names)}.")


def _is_nan(label: object) -> bool:
    return isinstance(label, (float, np.floating)) and math.isnan(label)


def _check_none_missing(is_missing: npt.ArrayLike) -> None:
    n_missing = np.count_nonzero(is_missing)
    if n_missing:
        raise LabelError(f"{n_missing} of the {np.size(is_missing)} labels are missing.")


def _name_family(cell_type: type) -> str:
    if issubclass(cell_type, str):
        return "text"
    if issubclass(cell_type, (bool, np.bool)):
        return "boolean"
    if issubclass(cell_type, (int, float, np.integer, np.floating)):
        return "number"
    raise LabelError(f"A label must be a number or a string, not {cell_type.__name__}.")


def _as_native(labels: Labels) -> Labels:
    # A long double differs by machine, and scikit-learn computes in double anyway.
    if labels.dtype.kind == "f" and labels.dtype.itemsize > _FLOAT.itemsize:
        return labels.astype(_FLOAT)
    return labels.astype(labels.dtype.newbyteorder("="), copy=False)
