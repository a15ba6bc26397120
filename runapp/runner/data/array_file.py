"""A binary container for arrays that is read by memory map, and columns of values in it.

A container is one file: an 8-byte magic with the version, the length of the header (u64, little
endian), the header (JSON, UTF-8), then each buffer on the next multiple of 64 bytes, in the order
of the header and with nothing after the last. Positions are computed, never read, so two buffers
cannot share bytes, and what a file makes its reader allocate is bounded by the file's own size.

The reader is a trusted process, the writer need not be: no pickle, no object arrays, and every
malformed file is a `ColumnsError`.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import IntEnum, StrEnum
from itertools import pairwise
from mmap import mmap
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

MAGIC = b"DRCOLS\x00\x01"
ALIGNMENT = 64
MAX_HEADER_BYTES = 64 * 2**20
MAX_DIMENSIONS = 2

# Native ones alone: the first operation on a swapped array would copy it.
DTYPES = {
    dtype.str: dtype
    for dtype in (
        *map(np.dtype, (np.bool, np.int8, np.int16, np.int32, np.int64)),
        *map(np.dtype, (np.uint8, np.uint16, np.uint32, np.uint64)),
        *map(np.dtype, (np.float16, np.float32, np.float64)),
    )
}

_PREFIX_BYTES = len(MAGIC) + 8
_LAST_CODE_POINT = 0x10FFFF

Array = npt.NDArray[Any]
Header = dict[str, Any]


class ColumnsError(ValueError):
    """A container that is malformed, or values that it cannot hold."""


class Kind(StrEnum):
    """How a column is stored.

    RAW : numbers or booleans, the array itself.
    UNICODE : numpy's fixed-width text, as its code points.
    TEXT : an object array of str and NaN.
    CELLS : an object array of None, NaN, str, bool, int and float.
    """

    RAW = "raw"
    UNICODE = "unicode"
    TEXT = "text"
    CELLS = "cells"


BUFFER_COUNTS = {Kind.RAW: 1, Kind.UNICODE: 1, Kind.TEXT: 4, Kind.CELLS: 4}


class _Tag(IntEnum):
    """What a cell is: a position in `_RESTORERS`."""

    NONE = 0
    MISSING = 1
    TEXT = 2
    BOOL = 3
    INT = 4
    FLOAT = 5


def write_container(file: BinaryIO, *, header: Mapping[str, Any], buffers: Sequence[Array]) -> None:
    """Write a container.

    Parameters
    ----------
    file : binary file
        Where to write, from its current position, which becomes the container's byte 0.
    header : mapping
        Whatever JSON can hold; at most 64 MiB together with the buffers' shapes.
    buffers : sequence of ndarray, 1-d or 2-d
        Numbers or booleans, little endian. Stored in C order, copied only if they are not.

    Raises
    ------
    ColumnsError
        If a buffer's dtype or number of dimensions is not allowed, or the header is too large.
    """
    arrays = [np.ascontiguousarray(_check_storable(buffer)) for buffer in buffers]
    described = [{"dtype": array.dtype.str, "shape": list(array.shape)} for array in arrays]
    text = json.dumps({"header": dict(header), "buffers": described}, separators=(",", ":"))
    if len(text) > MAX_HEADER_BYTES:
        raise ColumnsError(f"The header has {len(text)} bytes, the limit is {MAX_HEADER_BYTES}.")
    # JSON text from dumps() is ASCII, so its length is its number of bytes.
    prefix = MAGIC + len(text).to_bytes(8, "little") + text.encode("ascii")
    _write_all(file, memoryview(prefix))
    position = len(prefix)
    for array in arrays:
        padding = -position % ALIGNMENT
        _write_all(file, memoryview(bytes(padding)))
        _write_all(file, array.reshape(-1).view(np.uint8).data)
        position += padding + array.nbytes


def read_container(buffer: bytes | memoryview | mmap) -> tuple[Header, list[Array]]:
    """Read a container without copying its buffers.

    Parameters
    ----------
    buffer : bytes, memoryview or mmap
        The whole container and nothing else.

    Returns
    -------
    header : dict
        What was given to `write_container`, as JSON gives it back: not checked further.
    buffers : list of ndarray
        Views of `buffer`, writable if it is; they keep it alive.

    Raises
    ------
    ColumnsError
        If the bytes are not exactly one well-formed container.
    """
    view = memoryview(buffer)
    header, described, position = _parse_header(view)
    arrays = []
    for item in described:
        position += -position % ALIGNMENT
        arrays.append(_view_array(view, position=position, item=item))
        position += arrays[-1].nbytes
    if position != len(view):
        raise ColumnsError(f"The container has {len(view)} bytes, its header says {position}.")
    return header, arrays


def encode_column(values: Array) -> tuple[Kind, list[Array]]:
    """Turn a vector of values into buffers for a container.

    Parameters
    ----------
    values : ndarray, shape (n_samples,)
        Numbers, booleans, fixed-width text, or objects out of None, NaN, str, bool, int, float.

    Returns
    -------
    kind : Kind
        How it is stored; `decode_column` needs it.
    buffers : list of ndarray
        `BUFFER_COUNTS[kind]` of them.

    Raises
    ------
    ColumnsError
        If the array is not 1-d, or its dtype or the type of a cell cannot be stored.
    """
    if values.ndim != 1:
        raise ColumnsError(f"A column must be 1-d, not {values.ndim}-d.")
    if values.dtype.kind == "U" and values.dtype.isnative:
        width = values.dtype.itemsize // 4
        points = np.ascontiguousarray(values).view("<u4")
        return Kind.UNICODE, [points.reshape(len(values), width)]
    if values.dtype.kind == "O":
        return _encode_cells(values)
    return Kind.RAW, [_check_storable(values)]


def decode_column(kind: str, buffers: Sequence[Array]) -> Array:
    """Turn the buffers of `encode_column` back into the vector of values.

    Parameters
    ----------
    kind : str
        A `Kind`.
    buffers : sequence of ndarray
        What `encode_column` returned, for example after `read_container`.

    Returns
    -------
    ndarray, shape (n_samples,)
        The same values, types and dtype. RAW and UNICODE are views of the buffer; equal cells of
        TEXT and CELLS are one object.

    Raises
    ------
    ColumnsError
        If the kind is unknown or the buffers are not such as `encode_column` returns.
    """
    if kind not in BUFFER_COUNTS or len(buffers) != BUFFER_COUNTS[Kind(kind)]:
        raise ColumnsError(f"{len(buffers)} buffers are not a column of kind {str(kind)[:40]!r}.")
    if kind == Kind.RAW:
        return _check_buffer(buffers[0], ndim=1)
    if kind == Kind.UNICODE:
        return _decode_unicode(buffers[0])
    if kind == Kind.TEXT and np.any((buffers[1] != _Tag.TEXT) & (buffers[1] != _Tag.MISSING)):
        raise ColumnsError("A column of text holds a cell that is not text.")
    return _decode_cells(buffers)


def write_column(values: Array, file: BinaryIO) -> None:
    """Write one vector of values, for example labels, as a container.

    Parameters
    ----------
    values : ndarray, shape (n_samples,)
        See `encode_column`.
    file : binary file
        Where to write.

    Raises
    ------
    ColumnsError
        If the values cannot be stored.
    """
    kind, buffers = encode_column(values)
    write_container(file, header={"kind": kind}, buffers=buffers)


def read_column(buffer: bytes | memoryview | mmap) -> Array:
    """Read the vector of values that `write_column` wrote.

    Parameters
    ----------
    buffer : bytes, memoryview or mmap
        The whole container.

    Returns
    -------
    ndarray, shape (n_samples,)
        The same values, types and dtype.

    Raises
    ------
    ColumnsError
        If the bytes are not exactly one well-formed column.
    """
    header, buffers = read_container(buffer)
    kind = header.get("kind")
    if not isinstance(kind, str):
        raise ColumnsError("The container does not hold a column.")
    return decode_column(kind, buffers)


def _check_storable(array: Array) -> Array:
    if array.dtype.str not in DTYPES:
        raise ColumnsError(f"An array of {array.dtype} cannot be stored.")
    if not 1 <= array.ndim <= MAX_DIMENSIONS:
        raise ColumnsError(f"An array of {array.ndim} dimensions cannot be stored.")
    return array


def _write_all(file: BinaryIO, content: memoryview) -> None:
    # An unbuffered file may write less than it is given, and at most 2 GiB at a time (write(2)).
    while len(content):
        content = content[file.write(content) :]


def _parse_header(view: memoryview) -> tuple[Header, list[Any], int]:
    if len(view) < _PREFIX_BYTES or view[: len(MAGIC)] != MAGIC:
        raise ColumnsError("This is not a container of columns, or one of another version.")
    length = int.from_bytes(view[len(MAGIC) : _PREFIX_BYTES], "little")
    if length > min(MAX_HEADER_BYTES, len(view) - _PREFIX_BYTES):
        raise ColumnsError(f"A header of {length} bytes is longer than allowed or than the file.")
    end = _PREFIX_BYTES + length
    try:
        parsed = json.loads(str(view[_PREFIX_BYTES:end], "utf-8"))
    except (ValueError, RecursionError) as error:
        raise ColumnsError("The header of the container is not JSON.") from error
    match parsed:
        case {"header": dict(header), "buffers": list(described)}:
            return header, described, end
        case _:
            raise ColumnsError("The header of the container lacks a part.")


def _view_array(view: memoryview, *, position: int, item: object) -> Array:
    match item:
        case {"dtype": str(name), "shape": list(shape)} if name in DTYPES:
            dtype = DTYPES[name]
        case _:
            raise ColumnsError("The container names an array that cannot be stored.")
    # type(), as isinstance() would take JSON's true for 1.
    if not 1 <= len(shape) <= MAX_DIMENSIONS or any(type(n) is not int or n < 0 for n in shape):
        raise ColumnsError("The container names an array of an impossible shape.")
    if position + math.prod(shape) * dtype.itemsize > len(view):
        raise ColumnsError("An array reaches past the end of the container.")
    try:
        array: Array = np.ndarray(tuple(shape), dtype=dtype, buffer=view, offset=position)
    except (ValueError, TypeError, OverflowError) as error:
        raise ColumnsError("The container names an array of an impossible shape.") from error
    # numpy assumes that a boolean is 0 or 1 and indexes tables with it.
    if dtype.kind == "b" and np.any(array.view(np.uint8) > 1):
        raise ColumnsError("A boolean of the container is neither 0 nor 1.")
    return array


def _check_buffer(array: Array, *, ndim: int, dtype: str | None = None) -> Array:
    if array.ndim != ndim or (dtype is not None and array.dtype.str != dtype):
        raise ColumnsError(f"A column has a buffer of {array.ndim}-d {array.dtype}.")
    return array


def _decode_unicode(points: Array) -> Array:
    _check_buffer(points, ndim=2, dtype="<u4")
    # Without a width no byte stands behind the number of rows.
    if not points.shape[1]:
        raise ColumnsError("A column of text has an impossible width.")
    if points.size and points.max() > _LAST_CODE_POINT:
        raise ColumnsError("A text holds a number that is no character.")
    try:
        return np.ndarray((len(points),), dtype=f"<U{points.shape[1]}", buffer=points)
    except (ValueError, TypeError) as error:
        raise ColumnsError("A column of text has an impossible width.") from error


def _encode_cells(values: Array) -> tuple[Kind, list[Array]]:
    """Store each distinct cell once and a code per row: categories repeat, and a fold decodes."""
    code_of: dict[tuple[_Tag, str], int] = {}
    codes = np.fromiter(
        (code_of.setdefault(_describe_cell(value), len(code_of)) for value in values),
        dtype="<i4",
        count=len(values),
    )
    tags = np.array([tag for tag, _ in code_of], dtype="|u1")
    texts = [text.encode("utf-8", "surrogatepass") for _, text in code_of]
    offsets = np.zeros(len(texts) + 1, dtype="<i8")
    offsets[1:] = np.cumsum([len(text) for text in texts])
    utf8 = np.frombuffer(b"".join(texts), dtype="|u1")
    is_text = np.isin(tags, (_Tag.TEXT, _Tag.MISSING)).all()
    return (Kind.TEXT if is_text else Kind.CELLS), [codes, tags, offsets, utf8]


def _describe_cell(value: object) -> tuple[_Tag, str]:
    # Exact types: a subclass, numpy's scalars among them, would come back as its base.
    kind = type(value)
    if value is None:
        return _Tag.NONE, ""
    if isinstance(value, str) and kind is str:
        return _Tag.TEXT, value
    if isinstance(value, float) and kind is float:
        return (_Tag.MISSING, "") if math.isnan(value) else (_Tag.FLOAT, value.hex())
    if isinstance(value, bool):
        return _Tag.BOOL, "1" if value else ""
    if isinstance(value, int) and kind is int:
        # Hexadecimal, as decimal conversion of a long int is quadratic and refused by Python.
        return _Tag.INT, hex(value)
    raise ColumnsError(f"A cell of type {kind.__name__} cannot be stored.")


def _decode_cells(buffers: Sequence[Array]) -> Array:
    codes = _check_buffer(buffers[0], ndim=1, dtype="<i4")
    tags = _check_buffer(buffers[1], ndim=1, dtype="|u1")
    offsets = _check_buffer(buffers[2], ndim=1, dtype="<i8")
    utf8 = _check_buffer(buffers[3], ndim=1, dtype="|u1")
    if tags.size and tags.max() >= len(_RESTORERS):
        raise ColumnsError("A column holds a cell of an unknown type.")
    if codes.size and not (codes.min() >= 0 and codes.max() < len(tags)):
        raise ColumnsError("A column refers to a cell that it does not hold.")
    if len(offsets) != len(tags) + 1 or offsets[0] != 0 or offsets[-1] != len(utf8):
        raise ColumnsError("The offsets of a column do not match its text.")
    if np.any(offsets[1:] < offsets[:-1]):
        raise ColumnsError("The offsets of a column go backwards.")
    distinct = np.empty(len(tags), dtype=object)
    try:
        distinct[:] = [
            _RESTORERS[tag](text)
            for tag, text in zip(tags.tolist(), _slice_texts(utf8, offsets), strict=True)
        ]
    except (ValueError, OverflowError) as error:
        raise ColumnsError("A cell of a column cannot be read.") from error
    return distinct[codes]


def _slice_texts(utf8: Array, offsets: Array) -> Iterator[str]:
    content = utf8.tobytes()
    bounds = pairwise(offsets.tolist())
    if content.isascii():
        # One decoding for all: characters and bytes have the same positions.
        text = content.decode("ascii")
        return (text[start:end] for start, end in bounds)
    return (content[start:end].decode("utf-8", "surrogatepass") for start, end in bounds)


# A table, not a match: a column of a million names is decoded for every fold.
_RESTORERS: tuple[Callable[[str], object], ...] = (
    lambda _: None,
    lambda _: np.nan,
    lambda text: text,
    bool,
    lambda text: int(text, 16),
    float.fromhex,
)
