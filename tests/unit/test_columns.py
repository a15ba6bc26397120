"""The container: exact round trips, and nothing but ColumnsError for a hostile file."""

import io
import json
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from runapp.runner.data import array_file
from runapp.runner.data.array_file import ColumnsError, Kind
from tests.effort import FACTOR

NUMBERS = st.sampled_from(sorted(array_file.DTYPES.values(), key=str))
CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**200), 2**200),
    st.floats(),
    st.text(max_size=5),
)
HOSTILE_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([2**31, 2**62, 2**63, 2**64, 10**30, -(2**63)]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["<i8", "<f8", "|O", "<U9", "|V8", "text", "cells", "unicode", ""]),
    st.lists(st.integers(-1, 2**40), max_size=3),
    st.just({}),
)


def as_objects(values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def write(header, buffers):
    file = io.BytesIO()
    array_file.write_container(file, header=header, buffers=buffers)
    return file.getvalue()


def write_values(values):
    file = io.BytesIO()
    array_file.write_column(values, file)
    return file.getvalue()


def forge(parsed, *, body=bytes(4096)):
    text = parsed if isinstance(parsed, bytes) else json.dumps(parsed).encode()
    return array_file.MAGIC + len(text).to_bytes(8, "little") + text + body


def identify(cell):
    """Tell apart what == does not: types, signs of zero, NaN from NaN."""
    return type(cell), cell.hex() if isinstance(cell, float) else cell


@settings(max_examples=60 * FACTOR, deadline=None)
@given(
    st.lists(
        NUMBERS.flatmap(
            lambda dtype: nps.arrays(
                dtype, nps.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=5)
            )
        ),
        max_size=4,
    )
)
def test_container_round_trip_without_a_copy(arrays):
    content = bytearray(write({"é": [1, None]}, arrays))

    header, read = array_file.read_container(memoryview(content))

    assert header == {"é": [1, None]}
    for array, back in zip(arrays, read, strict=True):
        assert (back.dtype, back.shape) == (array.dtype, array.shape)
        assert back.tobytes() == array.tobytes()
        assert back.flags.writeable
        if array.size:
            assert np.shares_memory(back, np.frombuffer(content, dtype=np.uint8))


def test_container_aligns_buffers_in_the_file():
    content = write({}, [np.ones(3, dtype=np.int8), np.full(2, 7.5)])

    position = content.index(np.float64(7.5).tobytes())

    assert position % array_file.ALIGNMENT == 0


def test_container_stores_fortran_order_by_value():
    matrix = np.asfortranarray(np.arange(6).reshape(2, 3))

    _, [back] = array_file.read_container(write({}, [matrix]))

    assert back.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert back.flags.c_contiguous


def test_container_is_written_whole_to_a_file_that_writes_little():
    class Trickle(io.RawIOBase):
        def __init__(self):
            self.content = b""

        def write(self, content):
            self.content += bytes(content[:7])
            return min(len(content), 7)

    file = Trickle()

    array_file.write_container(file, header={"a": 1}, buffers=[np.arange(9)])

    assert file.content == write({"a": 1}, [np.arange(9)])


@pytest.mark.parametrize(
    "array",
    [
        np.array(["a"], dtype=object),
        np.array(["a"]),
        np.array([1], dtype=">i8"),
        np.array([1j]),
        np.array(["2020"], dtype="M8[D]"),
        np.array(5),
        np.zeros((1, 1, 1)),
    ],
)
def test_container_refuses_to_store(array):
    with pytest.raises(ColumnsError, match="cannot be stored"):
        write({}, [array])


def test_container_refuses_a_header_over_the_limit(monkeypatch):
    monkeypatch.setattr(array_file, "MAX_HEADER_BYTES", 100)

    with pytest.raises(ColumnsError, match="the limit is 100"):
        write({"a": "x" * 100}, [])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        array_file.MAGIC,
        array_file.MAGIC + bytes(7),
        b"DRCOLS\x00\x02" + write({}, [])[8:],
        write({}, []) + b"x",
        write({}, [np.arange(3)])[:-1],
        array_file.MAGIC + (2**64 - 1).to_bytes(8, "little") + b"{}",
        array_file.MAGIC + (3).to_bytes(8, "little") + b"{}",
        forge(b""),
        forge(b"\xff"),
        forge('{"header":{},"buffers":[]}'.encode("utf-16")),
        forge(b"[" * 200_000),
        forge(b'{"header":{},"buffers":[' + b"9" * 5000 + b"]}"),
        forge([]),
        forge({"header": [], "buffers": []}),
        forge({"header": {}, "buffers": {}}),
        forge({"header": {}}),
    ],
)
def test_container_malformed(content):
    with pytest.raises(ColumnsError):
        array_file.read_container(content)


@pytest.mark.parametrize(
    "item",
    [
        5,
        {},
        {"dtype": "|O", "shape": [1]},
        {"dtype": "<U4", "shape": [1]},
        {"dtype": ["<i8"], "shape": [1]},
        {"dtype": "<i8", "shape": 1},
        {"dtype": "<i8", "shape": []},
        {"dtype": "<i8", "shape": [1, 1, 1]},
        {"dtype": "<i8", "shape": [-1]},
        {"dtype": "<i8", "shape": [-1, -1]},
        {"dtype": "<i8", "shape": [True]},
        {"dtype": "<i8", "shape": [1.0]},
        {"dtype": "<i8", "shape": [2**40]},
        {"dtype": "<i8", "shape": [2**62, 4]},
        {"dtype": "<i8", "shape": [0, 2**80]},
    ],
)
def test_container_malformed_array(item):
    with pytest.raises(ColumnsError):
        array_file.read_container(forge({"header": {}, "buffers": [item]}))


def test_container_refuses_an_array_past_its_end():
    item = {"dtype": "|u1", "shape": [4097]}

    with pytest.raises(ColumnsError, match="past the end"):
        array_file.read_container(forge({"header": {}, "buffers": [item]}))


def test_container_refuses_to_read_a_header_over_the_limit(monkeypatch):
    content = write({"a": "x" * 100}, [])
    monkeypatch.setattr(array_file, "MAX_HEADER_BYTES", 100)

    with pytest.raises(ColumnsError, match="longer than allowed"):
        array_file.read_container(content)


def test_container_refuses_a_boolean_that_is_neither():
    content = bytearray(write({}, [np.array([True, False])]))
    content[-1] = 2

    with pytest.raises(ColumnsError, match="neither 0 nor 1"):
        array_file.read_container(content)


@settings(max_examples=60 * FACTOR, deadline=None)
@given(
    NUMBERS.flatmap(lambda dtype: nps.arrays(dtype, st.integers(0, 6)))
    | nps.arrays(st.sampled_from(["<U1", "<U7"]), st.integers(0, 6))
)
def test_column_of_numpy_values_round_trip(values):
    back = array_file.read_column(write_values(values))

    assert back.dtype == values.dtype
    assert back.tobytes() == values.tobytes()


@settings(max_examples=60 * FACTOR, deadline=None)
@given(st.lists(CELLS, max_size=8))
def test_column_of_cells_round_trip(cells):
    back = array_file.read_column(write_values(as_objects(cells)))

    assert back.dtype == object
    assert list(map(identify, back)) == list(map(identify, cells))


@settings(max_examples=60 * FACTOR, deadline=None)
@given(st.lists(st.text(max_size=4) | st.just(np.nan), max_size=8))
def test_column_of_text_round_trip(cells):
    kind, buffers = array_file.encode_column(as_objects(cells))

    back = array_file.decode_column(kind, buffers)

    assert kind == Kind.TEXT
    assert list(map(identify, back)) == list(map(identify, cells))


def test_column_keeps_surrogates_zero_signs_and_long_ints():
    cells = ["\ud83d", "\ud83d\ude00", "a\0", "", 0.0, -0.0, 0, False, 1, True, 1.0, 10**6000]

    back = array_file.read_column(write_values(as_objects(cells)))

    assert list(map(identify, back)) == list(map(identify, cells))


def test_column_of_categories_is_stored_and_restored_once_each():
    values = as_objects(["long category name", "other"] * 500)

    content = write_values(values)
    back = array_file.read_column(content)

    assert len(content) < 5000
    assert back[0] is back[2]


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        (b"x", "bytes"),
        (1j, "complex"),
        ([], "list"),
        (np.float64(1), "float64"),
        (np.str_("a"), "str_"),
        (np.bool(1), "bool"),
        (math, "module"),
    ],
)
def test_column_refuses_a_cell(cell, name):
    with pytest.raises(ColumnsError, match=f"type {name} cannot"):
        array_file.encode_column(as_objects([None, cell]))


@pytest.mark.parametrize(
    "values", [np.zeros((2, 2)), np.array(1), np.array(["a"], dtype=">U1"), np.array([b"a"])]
)
def test_column_refuses_values(values):
    with pytest.raises(ColumnsError):
        array_file.encode_column(values)


def make_cells(**changes):
    buffers = {
        "codes": np.array([0, 1], dtype=np.int32),
        "tags": np.array([2, 4], dtype=np.uint8),
        "offsets": np.array([0, 1, 4]),
        "utf8": np.frombuffer(b"a0x1", dtype=np.uint8),
    }
    return list((buffers | changes).values())


def test_column_of_forged_cells_reads_when_nothing_is_wrong():
    assert array_file.decode_column(Kind.CELLS, make_cells()).tolist() == ["a", 1]


@pytest.mark.parametrize(
    "changes",
    [
        {"codes": np.array([0, 2], dtype=np.int32)},
        {"codes": np.array([-1, 0], dtype=np.int32)},
        {"codes": np.array([0, 1])},
        {"codes": np.array([[0, 1]], dtype=np.int32)},
        {"tags": np.array([2, 9], dtype=np.uint8)},
        {"tags": np.array([], dtype=np.uint8)},
        {"tags": np.array([2, 4, 4], dtype=np.uint8)},
        {"offsets": np.array([0, 5, 4])},
        {"offsets": np.array([0, -(2**63), 4])},
        {"offsets": np.array([1, 1, 4])},
        {"offsets": np.array([0, 1, 3])},
        {"offsets": np.array([0, 1, 5])},
        {
            "tags": np.array([2, 2, 2], dtype=np.uint8),
            "offsets": np.array([0, 4, 0, 4]),
        },
        {"offsets": np.array([], dtype=np.int64)},
        {"offsets": np.array([0.0, 1, 4])},
        {"utf8": np.frombuffer(b"\xff0x1", dtype=np.uint8)},
        {"utf8": np.frombuffer(b"a0xg", dtype=np.uint8)},
        {"utf8": np.frombuffer(b"a0x1", dtype=np.int8)},
        {
            "tags": np.array([2, 5], dtype=np.uint8),
            "offsets": np.array([0, 1, 9]),
            "utf8": np.frombuffer(b"a0x1p9999", dtype=np.uint8),
        },
    ],
)
def test_column_of_forged_cells_is_refused(changes):
    with pytest.raises(ColumnsError):
        array_file.decode_column(Kind.CELLS, make_cells(**changes))


@pytest.mark.parametrize(
    ("kind", "buffers"),
    [
        ("pickle", [np.arange(3)]),
        (Kind.RAW, []),
        (Kind.RAW, [np.arange(3), np.arange(3)]),
        (Kind.RAW, [np.zeros((2, 2))]),
        (Kind.UNICODE, [np.zeros((2, 0), dtype=np.uint32)]),
        (Kind.UNICODE, [np.zeros((0, 2**40), dtype=np.uint32)]),
        (Kind.UNICODE, [np.full((1, 1), 0x110000, dtype=np.uint32)]),
        (Kind.UNICODE, [np.zeros((2, 2), dtype=np.int32)]),
        (Kind.TEXT, make_cells()),
    ],
)
def test_column_of_forged_buffers_is_refused(kind, buffers):
    with pytest.raises(ColumnsError):
        array_file.decode_column(kind, buffers)


@pytest.mark.parametrize("header", [{}, {"kind": None}, {"kind": ["raw"]}, {"kind": "x" * 999}])
def test_column_of_forged_header_is_refused(header):
    with pytest.raises(ColumnsError) as caught:
        array_file.read_column(write(header, [np.arange(3)]))

    assert len(str(caught.value)) < 200


SAMPLES = [
    write_values(as_objects(["a", None, 1.5, 3, True, np.nan, "bé", 2**70])),
    write_values(as_objects(["a", "b", "a", np.nan])),
    write_values(np.array(["abc", "d"])),
    write_values(np.array([True, False])),
    write_values(np.arange(4.0)),
]


@settings(max_examples=200 * FACTOR, deadline=None)
@given(st.sampled_from(SAMPLES), st.data())
def test_column_of_corrupt_bytes_reads_or_raises(sample, data):
    content = bytearray(sample)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))]

    try:
        values = array_file.read_column(content)
    except ColumnsError:
        return

    assert len(values.tolist()) <= len(content)


@settings(max_examples=200 * FACTOR, deadline=None)
@given(st.sampled_from(SAMPLES), st.data())
def test_column_of_corrupt_header_reads_or_raises(sample, data):
    header, buffers = array_file.read_container(sample)
    parsed = {
        "header": header,
        "buffers": [{"dtype": b.dtype.str, "shape": list(b.shape)} for b in buffers],
    }
    item = data.draw(st.sampled_from([parsed["header"], *parsed["buffers"]]))
    item[data.draw(st.sampled_from(sorted(item)))] = data.draw(HOSTILE_VALUES)
    body = data.draw(st.binary(max_size=400))

    try:
        values = array_file.read_column(forge(parsed, body=body))
    except ColumnsError:
        return

    assert len(values.tolist()) <= len(body) + len(sample)


def test_column_that_claims_much_allocates_little():
    item = {"dtype": "<i4", "shape": [2**34]}
    content = forge({"header": {"kind": "cells"}, "buffers": [item] * 4})
    tracemalloc.start()

    with pytest.raises(ColumnsError):
        array_file.read_column(content)

    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 2**20
