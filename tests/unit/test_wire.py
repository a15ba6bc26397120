"""The wire encodings: whole round trips, and a sentence for everything else."""

import base64
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from runapp import wire
from tests.effort import FACTOR


def pack(content, *, tail=b""):
    return base64.b64encode(zlib.compress(content) + tail).decode()


@settings(max_examples=60 * FACTOR, deadline=None)
@given(st.binary(max_size=300))
def test_bytes_round_trip(content):
    text = wire.encode_bytes(content)

    assert zlib.decompress(base64.b64decode(text)) == content
    assert wire.decode_bytes(text, max_bytes=len(content)) == content


@settings(max_examples=60 * FACTOR, deadline=None)
@given(st.binary(min_size=1, max_size=300))
def test_bytes_over_the_limit_are_too_large(content):
    with pytest.raises(wire.WireTooLarge, match=f"more than {len(content) - 1} bytes"):
        wire.decode_bytes(wire.encode_bytes(content), max_bytes=len(content) - 1)


def test_bomb_is_not_inflated():
    bomb = pack(bytes(64 * 2**20))
    tracemalloc.start()

    with pytest.raises(wire.WireTooLarge):
        wire.decode_bytes(bomb, max_bytes=2**16)

    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 2**20


def test_bomb_in_a_bomb_is_inflated_once():
    inner = zlib.compress(bytes(2**20))

    assert wire.decode_bytes(pack(inner), max_bytes=2**16) == inner


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "truncated"),
        ("é", "base64"),
        ("a", "base64"),
        ("YQ", "base64"),
        ("YR==", "canonical"),
        (pack(b"x") + "\n", "base64"),
        (" " + pack(b"x"), "base64"),
        (pack(b"x").replace("=", "") + "=", "base64"),
        (pack(b"xyz")[:-1] + "-", "base64"),
        (pack(b"xy") + pack(b"xy"), "base64"),
        (None, "base64 text"),
        (5, "base64 text"),
        ("YWJj", "zlib"),
        (pack(b"x", tail=b"y"), "extra bytes"),
        (pack(b"x", tail=zlib.compress(b"x")), "extra bytes"),
        (base64.b64encode(zlib.compress(b"x" * 99)[:-1]).decode(), "truncated"),
        (base64.b64encode(zlib.compress(b"x" * 99)[:-1] + b"?").decode(), "zlib"),
        (base64.b64encode(zlib.compress(b"x", wbits=31)).decode(), "zlib"),
        (base64.b64encode(zlib.compress(b"x", wbits=-15)).decode(), "zlib"),
    ],
)
def test_bytes_malformed(text, sentence):
    with pytest.raises(wire.WireError, match=sentence) as caught:
        wire.decode_bytes(text, max_bytes=100)

    assert not isinstance(caught.value, wire.WireTooLarge)


@settings(max_examples=60 * FACTOR, deadline=None)
@given(st.binary(max_size=12), st.integers(0, 40), st.characters())
def test_bytes_of_corrupt_text_decode_or_raise(content, position, character):
    text = pack(content)
    text = text[:position] + character + text[position + 1 :]

    try:
        decoded = wire.decode_bytes(text, max_bytes=20)
    except wire.WireError:
        return

    assert zlib.decompress(base64.b64decode(text, validate=True)) == decoded


@settings(max_examples=60 * FACTOR, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20))
def test_indices_round_trip(indices):
    decoded = wire.decode_indices(wire.encode_indices(indices), max_count=20)

    assert decoded.dtype == np.int64
    assert decoded.flags.writeable
    assert decoded.tolist() == indices


def test_indices_are_little_endian_int64_whatever_the_dtype():
    text = wire.encode_indices(np.array([1, 258], dtype=">i2"))

    assert zlib.decompress(base64.b64decode(text)) == bytes([1, *[0] * 7, 2, 1, *[0] * 6])


@pytest.mark.parametrize(
    "array", [[[1]], [1.0], [True], ["1"], np.array([2**63], dtype=np.uint64), 5]
)
def test_indices_not_encodable(array):
    with pytest.raises(wire.WireError):
        wire.encode_indices(array)


def test_indices_more_than_allowed_are_too_large():
    text = wire.encode_indices([0, 1, 2])

    with pytest.raises(wire.WireTooLarge, match="more than 2 indices"):
        wire.decode_indices(text, max_count=2)


def test_indices_of_broken_length_are_refused():
    with pytest.raises(wire.WireError, match="9 bytes"):
        wire.decode_indices(pack(bytes(9)), max_count=5)


@pytest.mark.parametrize(
    ("indices", "n_rows", "sentence"),
    [
        ([], 5, "no indices"),
        ([], None, "no indices"),
        ([0, -1], None, "Index -1 is negative"),
        ([3, 1, 3], None, "Index 3 is repeated"),
        ([0, 5], 5, "Index 5 is out of range"),
        ([0], 0, "out of range"),
    ],
)
def test_indices_refused(indices, n_rows, sentence):
    with pytest.raises(wire.WireError, match=sentence):
        wire.check_indices(np.array(indices, dtype=np.int64), n_rows=n_rows)


@pytest.mark.parametrize(("indices", "n_rows"), [([0], 1), ([4, 0, 2], 5), ([2**62], None)])
def test_indices_accepted(indices, n_rows):
    assert wire.check_indices(np.array(indices), n_rows=n_rows) is None


@settings(max_examples=60 * FACTOR, deadline=None)
@given(
    nps.arrays(
        np.float64,
        nps.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=6),
        elements=st.floats(),
    )
)
def test_predictions_round_trip_bit_for_bit(predictions):
    decoded = wire.decode_predictions(
        wire.encode_predictions(predictions), shape=predictions.shape, max_bytes=predictions.nbytes
    )

    assert decoded.dtype == np.float64
    assert decoded.shape == predictions.shape
    assert decoded.tobytes() == predictions.tobytes()


def test_predictions_of_fortran_order_are_sent_in_c_order():
    predictions = np.asfortranarray(np.arange(6.0).reshape(2, 3))

    decoded = wire.decode_predictions(
        wire.encode_predictions(predictions), shape=[2, 3], max_bytes=48
    )

    assert decoded.tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("array", [1.0, [[[1.0]]], ["a"], [1j], [None]])
def test_predictions_not_encodable(array):
    with pytest.raises(wire.WireError, match="Predictions must be"):
        wire.encode_predictions(array)


@pytest.mark.parametrize(
    ("shape", "max_bytes", "error", "sentence"),
    [
        ([3], 99, wire.WireError, "more predictions"),
        ([5], 99, wire.WireError, "fewer predictions"),
        ([4], 31, wire.WireTooLarge, "32 bytes, the limit is 31"),
        ([2**62], 99, wire.WireTooLarge, "limit"),
        ([], 99, wire.WireError, "shape"),
        ([2, 2, 1], 99, wire.WireError, "shape"),
        ([-2, -2], 99, wire.WireError, "whole numbers"),
        ([True, 4], 99, wire.WireError, "whole numbers"),
        ([4.0], 99, wire.WireError, "whole numbers"),
        ("4", 99, wire.WireError, "shape"),
        (None, 99, wire.WireError, "shape"),
    ],
)
def test_predictions_refused(shape, max_bytes, error, sentence):
    text = wire.encode_predictions([1.0, 2.0, 3.0, 4.0])

    with pytest.raises(error, match=sentence):
        wire.decode_predictions(text, shape=shape, max_bytes=max_bytes)


@pytest.mark.parametrize(
    "name",
    [
        "classifier.py",
        "data/train.csv",
        "a/b/c/d/e/f/g/h",
        ".hidden",
        "...",
        "with space",
        "données/été.csv",
        "x" * 255,
        "🎉.py",
    ],
)
def test_file_name_accepted(name):
    assert wire.check_file_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/etc/passwd",
        "//x",
        "..",
        "../x",
        "a/../b",
        "a/..",
        ".",
        "./a",
        "a/./b",
        "a//b",
        "a/",
        "a\\b",
        "..\\b",
        "a\0b",
        "a\nb",
        "a\x7fb",
        "a\x85b",
        "a\u2028b",
        "a\u2029b",
        "\ud800",
        "x" * 256,
        "é" * 128,
        "a/b/c/d/e/f/g/h/i",
        None,
        7,
    ],
)
def test_file_name_refused(name):
    with pytest.raises(wire.WireError, match=r"[Ff]ile name") as caught:
        wire.check_file_name(name)

    assert str(caught.value).isprintable()


@settings(max_examples=60 * FACTOR, deadline=None)
@given(st.text(max_size=20))
def test_file_name_of_any_text_is_accepted_or_raises(name):
    try:
        wire.check_file_name(name)
    except wire.WireError:
        return

    parts = name.split("/")
    assert not {"", ".", ".."} & set(parts)
    assert not set("\0\\\n\r") & set(name)
    assert name.encode()


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["a"],
        ["a", "b/a", "b/c", "ab"],
        ["data/x", "Data/y"],
        ["a.py", "a"],
    ],
)
def test_file_names_accepted(names):
    assert wire.check_file_names(names) is None


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["a", "a"], "the same"),
        (["a.py", "A.py"], "differ only"),
        (["\u00e9", "e\u0301"], "differ only"),
        (["straße", "STRASSE"], "differ only"),
        (["\u0345\u0301", "\u0301\u03b9"], "differ only"),
        (["data", "data/x"], "folder"),
        (["data/x/y", "data/x"], "folder"),
        (["DATA", "data/x/y"], "folder"),
        (["ok", "../x"], r"'\.\.' part"),
    ],
)
def test_file_names_refused(names, sentence):
    with pytest.raises(wire.WireError, match=sentence):
        wire.check_file_names(names)
