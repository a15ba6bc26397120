"""Labels: what may be trained on, and the classes in it."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runapp.runner.data.labels import LabelError, as_labels, class_labels
from tests.effort import FACTOR


def as_objects(values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array([3, 1, 3]), [1, 3]),
        (np.array([True, False]), [False, True]),
        (np.array([2.5, -1.0]), [-1.0, 2.5]),
        (np.array(["b", "B", "a"]), ["B", "a", "b"]),
        (as_objects(["é", "z", "é"]), ["z", "é"]),
        (as_objects([True, False]), [False, True]),
        (as_objects([2, 1.5]), [1.5, 2]),
        (np.array([2**64 - 1], dtype=np.uint64), [2**64 - 1]),
        (np.array([7, 7]), [7]),
    ],
)
def test_classes_are_sorted_plain_values(labels, classes):
    found = class_labels(labels)

    assert found == classes
    assert list(map(type, found)) == list(map(type, classes))
    assert json.loads(json.dumps(found, allow_nan=False)) == classes


@settings(max_examples=60 * FACTOR, deadline=None)
@given(st.lists(st.text(max_size=3), min_size=1) | st.lists(st.integers(-5, 5), min_size=1))
def test_classes_are_those_of_numpy(values):
    assert class_labels(as_objects(values)) == np.unique(as_objects(values)).tolist()


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (as_objects(["a", 1]), "mixed types: int, str"),
        (as_objects([True, "True"]), "mixed types: bool, str"),
        (as_objects([True, 1]), "mixed types: bool, int"),
        (as_objects(["a", np.nan, None]), "2 of the 3 labels are missing"),
        (as_objects([b"a"]), "not bytes"),
        (np.array([1.0, np.nan]), "missing or infinite"),
        (np.array([1.0, -np.inf]), "missing or infinite"),
    ],
)
def test_classes_refused(labels, sentence):
    with pytest.raises(LabelError, match=sentence):
        class_labels(labels)


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([1, 2], "int64", [1, 2]),
        ((1.5, 2), "float64", [1.5, 2.0]),
        ([1, np.inf], "float64", [1.0, np.inf]),
        ([True, False], "bool", [True, False]),
        (["a", "b"], "object", ["a", "b"]),
        ([np.str_("a")], "object", ["a"]),
        ([np.int8(3), np.int64(4)], "int64", [3, 4]),
        ([2**63], "uint64", [2**63]),
        (range(3), "int64", [0, 1, 2]),
        (np.array(["a", "bc"]), "<U2", ["a", "bc"]),
        (np.array(["a", "bc"], dtype=np.dtype("T")), "object", ["a", "bc"]),
        (np.array([1, 2], dtype=">i4"), "int32", [1, 2]),
        (np.array([1, 2], dtype=np.longdouble), "float64", [1.0, 2.0]),
        (np.array([1, 2], dtype=np.float32), "float32", [1.0, 2.0]),
        (pd.Series([1, 2], index=[5, 6]), "int64", [1, 2]),
        (pd.Series(["a", "b"]), "object", ["a", "b"]),
        (pd.Series([True, False], dtype=object), "bool", [True, False]),
        (pd.Series([1, 2], dtype="Int64"), "int64", [1, 2]),
        (pd.Series(["x", "y"], dtype="category"), "object", ["x", "y"]),
        (pd.Index([1.5]), "float64", [1.5]),
    ],
)
def test_labels_become_an_array(values, dtype, expected):
    labels = as_labels(values)

    assert isinstance(labels, np.ndarray)
    assert labels.dtype == np.dtype(dtype)
    assert labels.dtype.isnative
    assert labels.tolist() == expected
    assert list(map(type, labels.tolist())) == list(map(type, expected))


def test_labels_of_the_caller_are_left_alone():
    values = as_objects([np.str_("a"), "b"])

    as_labels(values)

    assert type(values[0]) is np.str_


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (5, "1-d array"),
        ("abc", "1-d array"),
        (None, "1-d array"),
        ({"a": 1}, "1-d array"),
        (np.zeros((3, 1)), r"shape is \(3, 1\)"),
        ([[1], [2]], "1-d array"),
        ([[1], [2, 3]], "list"),
        ([np.zeros(2), np.zeros(3)], "ndarray"),
        (pd.DataFrame({"y": [1]}), "1-d array"),
        ([], "empty"),
        ([1, "a"], "mixed types"),
        ([True, 2], "mixed types"),
        ([1.0, None], "1 of the 2 labels"),
        (["a", np.nan], "1 of the 2 labels"),
        (np.array([np.nan, 1.0, np.nan]), "2 of the 3 labels"),
        (np.array([np.nan], dtype=np.float16), "missing"),
        (np.ma.array([1, 2], mask=[0, 1]), "masked"),
        (pd.Series([1, None], dtype="Int64"), "1 of the 2 labels"),
        ([pd.NA, "a"], "NAType"),
        (np.array([1j]), "complex128"),
        (np.array([b"a"]), "not |S1"),
        (np.array(["2020-01-01"], dtype="M8[D]"), "datetime64"),
        ([b"a"], "bytes"),
        ([2**64], "64 bits"),
        ([2**63, -1], "64 bits"),
        ([2**64, 1.5], "64 bits"),
    ],
)
def test_labels_refused(values, sentence):
    with pytest.raises(LabelError, match=sentence):
        as_labels(values)
