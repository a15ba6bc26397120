"""The encodings of the wire: files, index arrays and predictions as text, file names checked.

Everything that arrives here was written by somebody else, so nothing is inflated, allocated or
trusted beyond the bound that the caller names.
"""

import binascii
import math
import unicodedata
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_NAME_BYTES = 255
MAX_NAME_PARTS = 8
MAX_DIMENSIONS = 2

# Control characters, lone surrogates, line and paragraph separators: none of them can be shown in
# one line of a log, and a surrogate has no UTF-8 form at all.
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})

# zlib's own choice, and its fastest: that one packs the predictions of a forest in a quarter of the
# time, into half as much again.
DEFAULT_LEVEL, FAST_LEVEL = -1, 1

_INDEX = np.dtype("<i8")
_PREDICTION = np.dtype("<f8")


class WireError(ValueError):
    """Something on the wire is not what the contract says; the message is for its sender."""


class WireTooLarge(WireError):
    """Something on the wire is, or would inflate to, more than the caller allows."""


def encode_bytes(content: bytes, *, level: int = DEFAULT_LEVEL) -> str:
    """Encode bytes as `base64(zlib(content))`.

    Parameters
    ----------
    content : bytes
        Any bytes, empty ones included.
    level : int, optional
        How hard zlib tries, from 1 to 9; any is decoded alike.

    Returns
    -------
    str
        ASCII text.
    """
    return binascii.b2a_base64(zlib.compress(content, level), newline=False).decode("ascii")


def decode_bytes(text: str, *, max_bytes: int) -> bytes:
    """Decode `base64(zlib(content))` without ever inflating past a bound.

    Parameters
    ----------
    text : str
        What `encode_bytes` returns.
    max_bytes : int
        The most bytes that the content may have, 0 or more.

    Returns
    -------
    bytes
        The content.

    Raises
    ------
    WireTooLarge
        If the content has more than `max_bytes` bytes.
    WireError
        If the text is not strict base64, or not exactly one whole zlib stream.
    """
    packed = _decode_base64(text)
    inflater = zlib.decompressobj()
    try:
        # One byte more than allowed tells "too large" from "just fits", and lets zlib go on to
        # the checksum of a content that just fits.
        content = inflater.decompress(packed, max_bytes + 1)
    except zlib.error as error:
        raise WireError("The content is not a valid zlib stream.") from error
    if len(content) > max_bytes:
        raise WireTooLarge(f"The content unpacks to more than {max_bytes} bytes.")
    if not inflater.eof:
        raise WireError("The zlib stream of the content is truncated.")
    if inflater.unused_data:
        raise WireError("The content has extra bytes after its zlib stream.")
    return content


def encode_indices(array: npt.ArrayLike) -> str:
    """Encode row positions as `base64(zlib(int64 little-endian))`.

    Parameters
    ----------
    array : array-like of int, shape (n_indices,)
        0-based row positions; an empty one is allowed.

    Returns
    -------
    str
        ASCII text.

    Raises
    ------
    WireError
        If the array is not 1-d, not of integers, or does not fit into 64 bits.
    """
    indices = np.asarray(array)
    if indices.ndim != 1:
        raise WireError(f"Indices must be a 1-d array, not {indices.ndim}-d.")
    if indices.size and indices.dtype.kind not in "iu":
        raise WireError(f"Indices must be integers, not {indices.dtype}.")
    if indices.size and indices.max() > np.iinfo(_INDEX).max:
        raise WireError("An index does not fit into 64 bits.")
    return encode_bytes(indices.astype(_INDEX).tobytes())


def decode_indices(text: str, *, max_count: int) -> npt.NDArray[np.int64]:
    """Decode row positions; `check_indices` judges their values.

    Parameters
    ----------
    text : str
        What `encode_indices` returns.
    max_count : int
        The most indices that it may hold, 0 or more.

    Returns
    -------
    ndarray of int64, shape (n_indices,)
        The positions as sent: negative or repeated ones included.

    Raises
    ------
    WireTooLarge
        If there are more than `max_count` indices.
    WireError
        If the text does not decode, or not to whole 64-bit integers.
    """
    try:
        content = decode_bytes(text, max_bytes=max_count * _INDEX.itemsize)
    except WireTooLarge as error:
        raise WireTooLarge(f"There are more than {max_count} indices.") from error
    if len(content) % _INDEX.itemsize:
        raise WireError(f"{len(content)} bytes are not a whole number of 64-bit integers.")
    return np.frombuffer(content, dtype=_INDEX).astype(np.int64)


def check_indices(indices: npt.NDArray[np.int64], *, n_rows: int | None) -> None:
    """Check that row positions choose rows of the train part, each at most once.

    Parameters
    ----------
    indices : ndarray of int64, shape (n_indices,)
        0-based row positions.
    n_rows : int or None
        Rows of the train part; None when it is not known yet.

    Raises
    ------
    WireError
        If there is no index, or one is negative, repeated, or not below `n_rows`.
    """
    if not indices.size:
        raise WireError("There are no indices.")
    if indices.min() < 0:
        raise WireError(f"Index {indices.min()} is negative.")
    if n_rows is not None and indices.max() >= n_rows:
        raise WireError(
            f"Index {indices.max()} is out of range: the train part has {n_rows} rows, from 0."
        )
    ordered = np.sort(indices)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if repeated.size:
        raise WireError(f"Index {repeated[0]} is repeated.")


def encode_predictions(array: npt.ArrayLike) -> str:
    """Encode predictions as `base64(zlib(float64 little-endian, C order))`.

    The shape is not part of the text: the contract carries it in a sibling field.

    Parameters
    ----------
    array : array-like of float, shape (n_samples,) or (n_samples, k)
        Predictions.

    Returns
    -------
    str
        ASCII text.

    Raises
    ------
    WireError
        If the array has another number of dimensions or is not of real numbers.
    """
    predictions = np.asarray(array)
    if predictions.ndim not in range(1, MAX_DIMENSIONS + 1):
        raise WireError(f"Predictions must be a 1-d or 2-d array, not {predictions.ndim}-d.")
    if predictions.dtype.kind not in "biuf":
        raise WireError(f"Predictions must be real numbers, not {predictions.dtype}.")
    return encode_bytes(predictions.astype(_PREDICTION).tobytes(order="C"))


def decode_predictions(
    text: str, *, shape: Sequence[int], max_bytes: int
) -> npt.NDArray[np.float64]:
    """Decode predictions of a known shape.

    Parameters
    ----------
    text : str
        What `encode_predictions` returns.
    shape : sequence of int
        `(n_samples,)` or `(n_samples, k)`.
    max_bytes : int
        The most bytes that the predictions may have.

    Returns
    -------
    ndarray of float64, shape `shape`
        The predictions, not checked for NaN.

    Raises
    ------
    WireTooLarge
        If an array of that shape has more than `max_bytes` bytes.
    WireError
        If the shape is not one, the text does not decode, or its length does not match.
    """
    expected_bytes = _count_cells(shape) * _PREDICTION.itemsize
    if expected_bytes > max_bytes:
        raise WireTooLarge(
            f"The predictions have {expected_bytes} bytes, the limit is {max_bytes}."
        )
    try:
        content = decode_bytes(text, max_bytes=expected_bytes)
    except WireTooLarge as error:
        raise WireError(f"There are more predictions than the shape {list(shape)} says.") from error
    if len(content) != expected_bytes:
        raise WireError(f"There are fewer predictions than the shape {list(shape)} says.")
    return np.frombuffer(content, dtype=_PREDICTION).astype(np.float64).reshape(tuple(shape))


def check_file_name(name: str) -> str:
    """Check that a file name is a plain relative POSIX path.

    Parameters
    ----------
    name : str
        For example `classifier.py` or `data/train.csv`; at most 255 bytes of UTF-8 and 8 parts.

    Returns
    -------
    str
        The name, unchanged.

    Raises
    ------
    WireError
        If the name is empty, absolute, too long or too deep, has an empty, `.` or `..` part, or
        holds a backslash, a NUL, a control character, a line separator or a lone surrogate.
    """
    if not isinstance(name, str) or not name:
        raise WireError("A file name must be text that is not empty.")
    # ascii() keeps the sentence printable whatever the name holds.
    shown = ascii(name[:80])
    if any(unicodedata.category(character) in _FORBIDDEN_CATEGORIES for character in name):
        raise WireError(f"File name {shown} contains a control character or half a character.")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise WireError(f"File name {shown} is longer than {MAX_NAME_BYTES} bytes.")
    if "\\" in name:
        raise WireError(f"File name {shown} contains a backslash: parts are separated by '/'.")
    if name.startswith("/"):
        raise WireError(f"File name {shown} starts with '/': it must be relative.")
    _check_name_parts(name.split("/"), shown=shown)
    return name


def check_file_names(names: Iterable[str]) -> None:
    """Check file names that shall live in one folder.

    Two names that differ in case or Unicode form alone are one file on some file systems, so they
    are refused everywhere.

    Parameters
    ----------
    names : iterable of str
        File names, see `check_file_name`.

    Raises
    ------
    WireError
        If one is not a valid name, two are the same, or one is also the folder of another.
    """
    name_of: dict[str, str] = {}
    for name in names:
        key = _normalise_name(check_file_name(name))
        if key in name_of:
            raise WireError(
                f"File names {name_of[key]!a} and {name!a} are the same, or differ only "
                "in case or Unicode form."
            )
        name_of[key] = name
    for key, name in name_of.items():
        for folder in _list_folders(key):
            if folder in name_of:
                raise WireError(f"File name {name_of[folder]!a} is also the folder of {name!a}.")


def _decode_base64(text: str) -> bytes:
    if not isinstance(text, str):
        raise WireError("The content must be base64 text.")
    try:
        ascii_text = text.encode("ascii")
        packed = binascii.a2b_base64(ascii_text, strict_mode=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise WireError("The content is not valid base64.") from error
    # Strict mode still accepts stray bits in the last group and a missing end: one content would
    # have several texts.
    tail = packed[-((len(packed) - 1) % 3 + 1) :]
    if binascii.b2a_base64(tail, newline=False) != ascii_text[-4:]:
        raise WireError("The content is not valid base64: its last group is not canonical.")
    return packed


def _count_cells(shape: Sequence[Any]) -> int:
    if not isinstance(shape, (list, tuple)) or not 1 <= len(shape) <= MAX_DIMENSIONS:
        raise WireError("The shape of predictions is [n] or [n, k].")
    # type(), as isinstance() would take JSON's true for 1.
    if any(type(length) is not int or length < 0 for length in shape):
        raise WireError("The shape of predictions holds whole numbers from 0.")
    return math.prod(shape)


def _check_name_parts(parts: list[str], *, shown: str) -> None:
    if len(parts) > MAX_NAME_PARTS:
        raise WireError(f"File name {shown} has more than {MAX_NAME_PARTS} parts.")
    if "" in parts:
        raise WireError(f"File name {shown} has an empty part.")
    if "." in parts or ".." in parts:
        raise WireError(f"File name {shown} has a '.' or '..' part.")


def _normalise_name(name: str) -> str:
    # In this order: folding composed characters would keep some spellings apart, while folding
    # decomposed ones leaves them decomposed (Unicode Standard, section 3.13).
    return unicodedata.normalize("NFD", name).casefold()


def _list_folders(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]
