"""Mapped frames: the same as those of read_csv and a split, down to the bits of predictions."""

import csv
import io
import json
import mmap
import os
import warnings
from contextlib import contextmanager
from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPRegressor
from sklearn.svm import SVR

from runapp.runner.data import array_file
from runapp.runner.data.array_file import ColumnsError
from runapp.runner.data.dataframes import map_frame, map_matrix, write_frame
from tests.effort import FACTOR

WORDS = st.sampled_from(["a", "b", "é", "two\nlines", 'a "quote"', "x,y", " ", "NaN", "None"])
POOLS = [
    st.integers(-9, 9).map(str),
    st.integers(-9, 9).map(str) | st.just(""),
    st.integers(2**63, 2**64 - 1).map(str),
    st.integers(2**64, 2**70).map(str),
    st.integers(2**62, 2**65).map(str) | st.just("-1"),
    st.floats().map(repr),
    st.floats(-1, 1).map(repr) | st.just(""),
    st.sampled_from(["1e-320", "-0.0", "inf", "-inf", "0.1"]),
    st.sampled_from(["True", "False"]),
    st.sampled_from(["True", "False", ""]),
    st.sampled_from(["True", "1", "x"]),
    st.sampled_from(["2020-01-01", "1999-12-31"]),
    st.just(""),
    WORDS,
    WORDS | st.just(""),
    WORDS | st.integers(0, 3).map(str),
]


@st.composite
def csv_texts(draw):
    """Make a CSV of up to six columns beside the target, and at least two rows."""
    n_rows = draw(st.integers(2, 12))
    n_columns = draw(st.integers(1, 6))
    pools = [draw(st.sampled_from(POOLS)) for _ in range(n_columns)]
    table = [draw(st.lists(pool, min_size=n_rows, max_size=n_rows)) for pool in pools]
    names = draw(
        st.lists(st.sampled_from(["a", "b", "é", "1", ""]), min_size=n_columns, max_size=n_columns)
    )
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow([*names, "target"])
    writer.writerows([*row, number] for number, row in enumerate(zip(*table, strict=True)))
    return file.getvalue()


def split_locally(text, *, random_state=0, target="target"):
    """Split as a client does it at home."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pd.errors.DtypeWarning)
        frame = pd.read_csv(io.StringIO(text))
    parts = train_test_split(frame, test_size=0.4, random_state=random_state)
    return [part.drop(columns=target) for part in parts], [
        part[target].to_numpy() for part in parts
    ]


@contextmanager
def stored(content):
    fd = os.memfd_create("frame")
    try:
        with open(fd, "wb", closefd=False) as file:
            if isinstance(content, pd.DataFrame):
                write_frame(content, file)
            else:
                file.write(content)
        yield fd
    finally:
        os.close(fd)


def pass_through(frame):
    with stored(frame) as fd:
        return map_frame(fd)


def describe_array(array):
    flags = array.flags
    return (
        array.dtype,
        array.shape,
        array.strides,
        flags.c_contiguous,
        flags.f_contiguous,
        (flags.writeable),
    )


def describe_layout(frame, rows):
    """Describe every matrix that a submission is likely to make of a frame."""
    matrix = frame.to_numpy()
    chosen = frame.iloc[rows]
    fewer = frame.drop(columns=list(frame.columns[:1]))
    return [
        describe_array(array)
        for array in (
            matrix,
            matrix[rows],
            chosen.to_numpy(),
            fewer.to_numpy(),
            fewer.iloc[rows].to_numpy(),
            np.asarray(frame),
            *(frame.iloc[:, column].to_numpy() for column in range(frame.shape[1])),
        )
    ]


def list_bits(frame):
    """List each cell with its type, floats bit by bit, which equality does not tell apart."""
    return [
        [(type(cell), cell.hex() if isinstance(cell, float) else cell) for cell in column.tolist()]
        for _, column in frame.items()
    ]


def assert_same(back, frame):
    assert_frame_equal(
        back,
        frame,
        check_exact=True,
        check_index_type="exact",
        check_column_type="exact",
        check_freq=True,
        check_flags=True,
    )
    assert type(back.index) is type(frame.index)
    assert type(back.columns) is type(frame.columns)
    assert list_bits(back) == list_bits(frame)
    assert [str(dtype) for dtype in back.dtypes] == [str(dtype) for dtype in frame.dtypes]
    for (_, column), (_, expected) in zip(back.items(), frame.items(), strict=True):
        assert type(column.array) is type(expected.array)
        assert getattr(column.dtype, "storage", None) == getattr(expected.dtype, "storage", None)


def find_owner(array):
    while isinstance(array, np.ndarray):
        array = array.base
    return array.obj if isinstance(array, memoryview) else array


def make_csv(*, n_rows=60, ints=0, floats=3, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        rng.normal(size=(n_rows, floats)), columns=[f"f{i}" for i in range(floats)]
    )
    for number in range(ints):
        frame.insert(number, f"i{number}", rng.integers(-5, 5, size=n_rows))
    frame.insert(1, "target", rng.normal(size=n_rows))
    return frame.to_csv(index=False)


@settings(max_examples=50 * FACTOR, deadline=None)
@given(csv_texts(), st.integers(0, 5))
def test_frame_of_any_csv_is_the_local_one_in_both_parts(text, random_state):
    parts, _ = split_locally(text, random_state=random_state)

    for part in parts:
        back = pass_through(part)

        rows = np.arange(0, len(part), 2)
        assert_same(back, part)
        assert describe_layout(back, rows) == describe_layout(part, rows)
        with stored(part) as fd:
            matrix = map_matrix(fd)
        assert describe_array(matrix) == describe_array(part.to_numpy())
        assert_frame_equal(pd.DataFrame(matrix), pd.DataFrame(part.to_numpy()), check_exact=True)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("target\n1\n2\n3\n", id="target alone"),
        pytest.param("a,target\n1,2\n3,4\n5,6\n", id="one column"),
        pytest.param("a,target\n1.5,2,3\n2.5,4,5\n9.5,6,7\n", id="float index"),
        pytest.param("a,target\nx,2,3\n,4,5\nz,6,7\n", id="text index"),
        pytest.param("a,target\nTrue,2,3\n,4,5\nFalse,6,7\n", id="object index"),
        pytest.param("a,target\nTrue,2,3\nTrue,4,5\nFalse,6,7\n", id="boolean index"),
        pytest.param("a,target\nx,1,2,3\nx,3,4,5\ny,1,6,7\n", id="two indexes"),
        pytest.param("a,a,,target\n1,2,3,4\n1,2,3,4\n1,2,3,4\n", id="repeated names"),
        pytest.param("\ufeffa,target\n1,2\n3,4\n5,6\n", id="byte order mark"),
    ],
)
def test_frame_of_an_odd_csv_is_the_local_one(text):
    parts, _ = split_locally(text)

    for part in parts:
        assert_same(pass_through(part), part)


def test_frame_of_objects_stays_so_when_its_other_cells_are_in_the_other_part():
    text = "a,b,target\n" + "True,x,1\n" * 4 + ",,2\n"
    frame = pd.read_csv(io.StringIO(text)).astype({"b": object})
    part = frame.iloc[:4].drop(columns="target")

    back = pass_through(part)

    assert list(back.dtypes) == [object, object]
    assert_same(back, part)


def test_frame_of_types_that_vary_by_chunk_is_the_local_one():
    # read_csv takes 8,192 rows of 102 columns at a time, and finds a type for each chunk.
    rows = "True,1" + "," * 100 + "\n", "7,2" + "," * 100 + "\n"
    text = "a,target" + "," * 100 + "\n" + rows[0] * 8192 + rows[1] * 50

    parts, _ = split_locally(text)

    assert {*map(type, parts[0]["a"])} == {bool, int}
    for part in parts:
        assert_same(pass_through(part[["a"]]), part[["a"]])


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(),
        pd.DataFrame(index=pd.RangeIndex(3)),
        pd.DataFrame(index=pd.Index([4, 2])),
        pd.read_csv(io.StringIO("a,b\n")),
        pd.read_csv(io.StringIO("a,b,c,d\n1,x,1.5,True\n")).iloc[:0],
        pd.DataFrame({"a": [1, 2]}, index=pd.RangeIndex(7, 3, -2)),
        pd.DataFrame([[1, 2.5, "x"]], columns=["a", "a", "b"]),
        pd.DataFrame([[1, 2.5]], columns=[3, 1]),
        pd.DataFrame([[1, 2.5]], columns=pd.RangeIndex(2)),
        pd.DataFrame({"a": [1]}, index=pd.Index([5], name="id")).rename_axis(columns="names"),
    ],
    ids=lambda frame: f"{frame.shape}",
)
def test_frame_of_an_odd_shape_round_trip(frame):
    assert_same(pass_through(frame), frame)


@pytest.mark.parametrize("dtype", sorted(array_file.DTYPES))
def test_frame_of_each_dtype_round_trip(dtype):
    frame = pd.DataFrame({"a": [0, 1], "b": [1, 0], "c": [0.5, 0.25]}).astype(
        {"a": dtype, "b": dtype}
    )

    assert_same(pass_through(frame), frame)


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        (pd.DataFrame({"a": pd.Categorical(["x"])}), "category"),
        (pd.DataFrame({"a": pd.to_datetime(["2020-01-01"])}), "datetime64"),
        (pd.DataFrame({"a": pd.array([1, None], dtype="Int64")}), "Int64"),
        (pd.DataFrame({"a": pd.array(["x"], dtype="string")}), "string"),
        (pd.DataFrame({"a": [1j]}), "complex"),
        (pd.DataFrame({"a": [b"x"]}), "bytes"),
        (pd.DataFrame({"a": [1]}, index=pd.Index([0], name=("x", "y"))), "name of an index"),
        (pd.DataFrame({"a": [1]}, index=pd.to_datetime(["2020-01-01"])), "datetime64"),
    ],
)
def test_frame_that_cannot_be_stored(frame, sentence):
    with pytest.raises(ColumnsError, match=sentence):
        write_frame(frame, io.BytesIO())


def test_frame_shares_the_map_and_its_writes_are_private():
    part = pd.DataFrame({"a": [1.5, 2.5], "b": [3.5, 4.5], "c": [1, 2], "t": ["x", "y"]})
    with stored(part) as fd:
        frame, other, matrix = map_frame(fd), map_frame(fd), map_matrix(fd)
        before = os.pread(fd, 2**20, 0)

        frame.iloc[0, 0] = 99.0
        frame.loc[:, "c"] += 1
        matrix[1, 0] = 7

        assert os.pread(fd, 2**20, 0) == before
    assert frame["a"].tolist() == [99.0, 2.5]
    assert_same(other, part)
    assert isinstance(find_owner(frame["a"].to_numpy()), mmap.mmap)
    assert find_owner(frame["a"].to_numpy()) is find_owner(frame["b"].to_numpy())


def test_frame_uses_the_index_in_the_map():
    part = pd.DataFrame({"a": [1.5, 2.5, 3.5]}, index=[4, 0, 1])

    back = pass_through(part)

    assert isinstance(find_owner(back.index.to_numpy()), mmap.mmap)


def test_matrix_of_one_dtype_is_a_writable_view_of_the_map():
    part = pd.DataFrame({"a": [1.5, 2.5], "b": [3.5, 4.5]})
    with stored(part) as fd:
        matrix, other = map_matrix(fd), map_matrix(fd)

        matrix[0, 1] = 9

    assert isinstance(find_owner(matrix), mmap.mmap)
    assert matrix.tolist() == [[1.5, 9], [2.5, 4.5]]
    assert other.tolist() == part.to_numpy().tolist()


def predict_locally(model, X_df, X_test_df, y, rows):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X_df.to_numpy()[rows], y[rows])
        by_matrix = model.predict(X_df.to_numpy()), model.predict(X_test_df.to_numpy())
        model.fit(X_df.iloc[rows], y[rows])
        return *by_matrix, model.predict(X_df), model.predict(X_test_df)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "columns_of", [{"floats": 7}, {"floats": 4, "ints": 3}, {"floats": 1}, {"floats": 0, "ints": 5}]
)
@pytest.mark.parametrize(
    "make_model",
    [
        LinearRegression,
        Ridge,
        SVR,
        lambda: LogisticRegression(max_iter=20),
        lambda: MLPRegressor(hidden_layer_sizes=(8,), max_iter=5, random_state=0),
    ],
)
def test_predictions_are_the_local_ones_bit_for_bit(make_model, columns_of, seed):
    (X_train, X_test), (y, _) = split_locally(
        make_csv(n_rows=203, seed=seed, **columns_of), random_state=seed
    )
    model = make_model()
    if isinstance(model, LogisticRegression):
        y = y > 0
    rows = np.random.default_rng(seed).permutation(len(y))[:70]

    ours = predict_locally(model, pass_through(X_train), pass_through(X_test), y, rows)

    theirs = predict_locally(make_model(), X_train, X_test, y, rows)
    assert [array.tobytes() for array in ours] == [array.tobytes() for array in theirs]


@pytest.mark.parametrize("columns_of", [{"floats": 40}, {"floats": 20, "ints": 20}])
def test_reductions_are_the_local_ones_bit_for_bit(columns_of):
    (X_train, _), _ = split_locally(make_csv(n_rows=1001, **columns_of))
    back = pass_through(X_train)
    with stored(X_train) as fd:
        matrix = map_matrix(fd)

    for axis in (0, 1):
        for name in ("mean", "std", "sum"):
            ours = getattr(back, name)(axis=axis).to_numpy()
            assert ours.tobytes() == getattr(X_train, name)(axis=axis).to_numpy().tobytes()
            ours = getattr(matrix, name)(axis=axis)
            assert ours.tobytes() == getattr(X_train.to_numpy(), name)(axis=axis).tobytes()
    assert (matrix.T @ matrix).tobytes() == (X_train.to_numpy().T @ X_train.to_numpy()).tobytes()


SAMPLE = pd.read_csv(
    io.StringIO(
        "i,f,t,b,o,g\n" + "".join(f"{n},{n}.5,w{n},True,{'True' * (n % 2)},.1\n" for n in range(5))
    )
).iloc[[3, 0, 4, 1]]
FILE = io.BytesIO()
write_frame(SAMPLE, FILE)
CONTENT = FILE.getvalue()
HOSTILE_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 6),
    st.sampled_from([2**31, 2**62, 2**63, 2**64, -(2**63), 10**30]),
    st.sampled_from([*array_file.DTYPES, "str", "object", "category", "M8[ns]"]),
    st.lists(st.sampled_from([*array_file.DTYPES, "str", "object"]), max_size=6),
    st.lists(st.integers(-3, 6), max_size=3),
    st.sampled_from([[0, 2**62, 1], [0, 2**63, 1], [-(2**62), 2**62 + 9, 1], [0, 5, 0]]),
    st.just({}),
)


def forge(parsed):
    text = json.dumps(parsed).encode()
    content = array_file.MAGIC + len(text).to_bytes(8, "little") + text
    _, buffers = array_file.read_container(CONTENT)
    for buffer in buffers:
        content += bytes(-len(content) % array_file.ALIGNMENT) + buffer.tobytes()
    return content


def parse():
    length = int.from_bytes(CONTENT[8:16], "little")
    return json.loads(CONTENT[16 : 16 + length])


def list_places(node):
    """List every (container, key) of a JSON document."""
    keys = list(node) if isinstance(node, dict) else range(len(node))
    for key in keys:
        yield node, key
        if isinstance(node[key], dict | list):
            yield from list_places(node[key])


def test_forged_frame_reads_when_nothing_is_wrong():
    with stored(forge(parse())) as fd:
        assert_same(map_frame(fd), SAMPLE)


@settings(max_examples=150 * FACTOR, deadline=None)
@given(st.data())
def test_frame_of_corrupt_header_reads_or_raises(data):
    parsed = parse()
    for _ in range(data.draw(st.integers(1, 3))):
        node, key = data.draw(st.sampled_from(list(list_places(parsed))))
        # A copy, as the next change may be made inside it.
        node[key] = deepcopy(data.draw(HOSTILE_VALUES))

    with stored(forge(parsed)) as fd:
        try:
            frame = map_frame(fd)
        except ColumnsError:
            return

    assert frame.memory_usage(deep=True).sum() < 100_000


@settings(max_examples=100 * FACTOR, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, len(CONTENT) - 1), st.integers(0, 255)), min_size=1, max_size=4
    ),
    st.just(len(CONTENT)) | st.integers(0, len(CONTENT)),
)
def test_frame_of_corrupt_bytes_reads_or_raises(changes, length):
    content = bytearray(CONTENT)
    for position, value in changes:
        content[position] = value

    with stored(content[:length]) as fd:
        try:
            frame = map_frame(fd)
        except ColumnsError:
            return

    assert frame.memory_usage(deep=True).sum() < 100_000


@pytest.mark.parametrize(
    ("axis", "value"),
    [
        ("index", {"names": [None], "range": [0, 4, 0]}),
        ("index", {"names": [None], "range": [0, 5, 1]}),
        ("index", {"names": [None], "range": [0, 2**70, 1]}),
        ("index", {"names": [None], "range": [-(2**63), 2**63 - 1, 1]}),
        ("index", {"names": [[]], "range": [0, 4, 1]}),
        ("index", {"names": [None, None], "range": [0, 4, 1]}),
        ("index", {"names": [], "levels": []}),
        ("index", {"names": [{}], "levels": ["<i8"]}),
        ("index", {"names": [None], "levels": ["<f2"]}),
        ("index", {"names": [None], "levels": ["<f8"]}),
        ("index", {"names": [None], "levels": ["str"]}),
        ("index", {"names": [None], "levels": ["category"]}),
        ("index", {}),
        ("columns", {"names": [None], "range": [0, 6, 1]}),
        ("columns", {"names": [None], "range": [0, 5, 1]}),
        ("frame", ["<i8"]),
        ("frame", [["<i8"]]),
        ("frame", None),
    ],
)
def test_frame_of_a_forged_header_is_refused(axis, value):
    parsed = parse()
    parsed["header"][axis] = value

    with stored(forge(parsed)) as fd, pytest.raises(ColumnsError):
        map_frame(fd)


RANGE = {"names": [None], "range": [0, 2, 1]}
ONE = {"names": [None], "range": [0, 1, 1]}
FLOATS = np.zeros((1, 2))


def write_forged(frame, buffers, *, columns_axis=ONE, index=RANGE):
    file = io.BytesIO()
    header = {"frame": frame, "columns": columns_axis, "index": index}
    array_file.write_container(file, header=header, buffers=buffers)
    return file.getvalue()


def test_forged_buffers_read_when_nothing_is_wrong():
    with stored(write_forged(["<f8"], [FLOATS])) as fd:
        assert map_frame(fd).to_numpy().tolist() == [[0], [0]]


@pytest.mark.parametrize(
    ("frame", "buffers", "axes"),
    [
        pytest.param(["<f8"], [], {}, id="no matrix"),
        pytest.param(["<f8"], [np.zeros((2, 2))], {}, id="matrix of more columns"),
        pytest.param(["<f8"] * 2, [FLOATS], {}, id="matrix of fewer columns"),
        pytest.param(["<f8"], [np.zeros(2)], {}, id="matrix of one dimension"),
        pytest.param(["<f8"], [np.zeros((1, 2), dtype=np.int64)], {}, id="matrix of another dtype"),
        pytest.param(["<f8"], [FLOATS, np.arange(2)], {}, id="a buffer too many"),
        pytest.param(["<f8"], [np.zeros((1, 3))], {}, id="more rows than labels"),
        pytest.param(["<f8"], [FLOATS], {"columns_axis": RANGE}, id="more labels than columns"),
        pytest.param(
            ["<f8"],
            [FLOATS],
            {"index": {"names": [None], "range": [2**70, 2**70 + 2, 1]}},
            id="range over 64 bits",
        ),
        pytest.param(
            ["<f8"],
            [FLOATS, np.zeros(2, dtype=np.float16)],
            {"index": {"names": [None], "levels": ["<f2"]}},
            id="index of half precision",
        ),
        pytest.param(
            ["<f8"],
            [FLOATS, np.zeros(2)],
            {"index": {"names": [None], "levels": ["<i8"]}},
            id="index of another dtype",
        ),
        pytest.param(
            ["<f8"],
            [FLOATS, np.zeros(2), np.zeros(3)],
            {"index": {"names": [None, None], "levels": ["<f8", "<f8"]}},
            id="levels of two lengths",
        ),
    ],
)
def test_frame_of_forged_buffers_is_refused(frame, buffers, axes):
    with stored(write_forged(frame, buffers, **axes)) as fd, pytest.raises(ColumnsError):
        map_frame(fd)


def test_frame_of_an_empty_file_is_refused():
    with stored(b"") as fd, pytest.raises(ColumnsError, match="empty"):
        map_frame(fd)
