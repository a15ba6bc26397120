"""Whatever comes over the wire is decoded within its bound, or refused in a sentence."""

from __future__ import annotations

import base64
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runapp.common import wire
from tests.effort import FACTOR

BOUND = 4096
# What a decoder takes beside the content: its window, its objects, a sentence.
OVERHEAD_BYTES = 256 * 1024

fuzz = settings(max_examples=100 * FACTOR, deadline=None)

# JSON's values, and what else a caller's mistake may hand over.
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
packed = st.builds(zlib.compress, st.binary(max_size=200), st.integers(-1, 9))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Return a zlib stream that was cut, doubled, or had bytes replaced, removed or added."""
    stream = draw(packed)
    start = draw(st.integers(0, len(stream)))
    end = draw(st.integers(start, len(stream)))
    return stream[:start] + draw(st.binary(max_size=20) | packed) + stream[end:]


texts = st.one_of(
    st.text(),
    st.text(alphabet="ABab01+/=-_ \n"),
    st.binary().map(lambda content: base64.b64encode(content).decode()),
    packed.map(lambda content: base64.b64encode(content).decode()),
    damaged().map(lambda content: base64.b64encode(content).decode()),
)


def refuse_or(decode: Callable[[], Any]) -> Any:
    """Return what is decoded, None if it is refused as it should be."""
    try:
        return decode()
    except wire.WireError as error:
        sentence = str(error)
    assert sentence.isprintable()
    assert len(sentence) < 500
    return None


@fuzz
@given(texts | values)
def test_any_text_is_decoded_as_it_was_encoded_or_refused(text: Any) -> None:
    content = refuse_or(lambda: wire.decode_bytes(text, max_bytes=BOUND))

    if content is not None:
        assert len(content) <= BOUND
        assert zlib.decompress(base64.b64decode(text, validate=True)) == content
        assert wire.decode_bytes(wire.encode_bytes(content), max_bytes=BOUND) == content


@fuzz
@given(texts | values, st.integers(0, 20))
def test_any_text_makes_indices_within_their_count_or_is_refused(text: Any, most: int) -> None:
    indices = refuse_or(lambda: wire.decode_indices(text, max_count=most))

    if indices is not None:
        assert indices.dtype == np.int64
        assert indices.size <= most


@fuzz
@given(texts | values, values | st.lists(st.integers(-1, 20), max_size=3))
def test_any_text_and_shape_make_an_array_of_the_shape_or_are_refused(
    text: Any, shape: Any
) -> None:
    array = refuse_or(lambda: wire.decode_predictions(text, shape=shape, max_bytes=BOUND))

    if array is not None:
        assert list(array.shape) == list(shape)
        assert array.nbytes <= BOUND


@fuzz
@given(st.lists(st.binary(min_size=8, max_size=8), max_size=30), st.sampled_from("<>"))
def test_floats_of_any_bits_come_back_bit_for_bit(bits: list[bytes], order: str) -> None:
    sent = np.frombuffer(b"".join(bits), dtype=f"{order}f8")

    text = wire.encode_predictions(sent)
    back = wire.decode_predictions(text, shape=[len(bits)], max_bytes=8 * len(bits))

    # As integers: NaNs differ in their payload and sign, and are equal to nothing.
    assert back.view("<i8").tolist() == sent.view(f"{order}i8").tolist()


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (1, 1)])
def test_arrays_of_few_cells_keep_their_shape(shape: tuple[int, ...]) -> None:
    text = wire.encode_predictions(np.ones(shape))

    assert wire.decode_predictions(text, shape=shape, max_bytes=8).shape == shape


@fuzz
@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=30))
def test_indices_of_any_values_come_back(sent: list[int]) -> None:
    text = wire.encode_indices(np.asarray(sent, dtype=np.int64))

    assert wire.decode_indices(text, max_count=len(sent)).tolist() == sent


@fuzz
@given(st.lists(st.integers(-2, 12), max_size=8), st.none() | st.integers(0, 12))
def test_indices_are_checked_as_by_hand(sent: list[int], n_rows: int | None) -> None:
    most = 2**63 if n_rows is None else n_rows
    is_good = bool(sent) and len(set(sent)) == len(sent) and all(0 <= i < most for i in sent)

    try:
        wire.check_indices(np.asarray(sent, dtype=np.int64), n_rows=n_rows)
    except wire.WireError:
        assert not is_good
    else:
        assert is_good


@settings(max_examples=20 * FACTOR, deadline=None)
@given(
    st.integers(2**20, 2**24),
    st.integers(1, 9),
    st.binary(max_size=20) | packed | st.just(zlib.compress(bytes(2**22))),
    st.integers(0, 100),
)
def test_bomb_never_takes_more_than_its_bound(size: int, level: int, tail: bytes, cut: int) -> None:
    stream = zlib.compress(bytes(size), level) + tail
    text = base64.b64encode(stream[: len(stream) - cut]).decode()
    tracemalloc.start()

    with pytest.raises(wire.WireError):
        wire.decode_bytes(text, max_bytes=BOUND)

    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The text's own bytes are there twice on the way, once decoded.
    assert peak_bytes < BOUND + 3 * len(text) + OVERHEAD_BYTES


@fuzz
@given(values | st.text(alphabet="ab/.\\\0 é\u202e\ud800"))
def test_any_name_stays_below_its_folder_or_is_refused(name: Any) -> None:
    accepted = refuse_or(lambda: wire.check_file_name(name))

    if accepted is not None:
        assert accepted == name
        assert not {"", ".", ".."} & set(name.split("/"))
        assert len(name.encode()) <= wire.MAX_NAME_BYTES


@fuzz
@given(st.lists(st.text(alphabet="aAbB/éÉ", min_size=1, max_size=4), max_size=5))
def test_names_that_are_taken_together_are_files_of_their_own(names: list[str]) -> None:
    refused = False
    try:
        wire.check_file_names(names)
    except wire.WireError:
        refused = True

    if not refused:
        folded = [name.casefold() for name in names]
        assert len(set(folded)) == len(names)
        assert not any(a != b and b.startswith(f"{a}/") for a in folded for b in folded)
