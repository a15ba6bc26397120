"""DataFrames in a container of columns: written once at the split, memory-mapped by every fold.

A mapped frame behaves as the one that `pandas.read_csv` and a split give. The columns of a numeric
dtype lie together as one matrix in the file, so that the features of a purely numeric dataset are
a matrix without a copy (`map_matrix`); in the frame each is a block of its own, as `read_csv` makes
them, because pandas derives from the blocks whether `to_numpy()` is a writable copy or a read-only
view, and how it lies in memory. What is mapped is shared until written, and writing is private.
"""

import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
from pandas.api.internals import create_dataframe_from_blocks

from runapp.runner.data.array_file import (
    BUFFER_COUNTS,
    DTYPES,
    Array,
    ColumnsError,
    Header,
    Kind,
    decode_column,
    encode_column,
    read_container,
    write_container,
)

# The storage of the text, Python's or Arrow's, is left to pandas, as read_csv leaves it.
TEXT_DTYPE = pd.StringDtype(na_value=np.nan)
TEXT = "str"
OBJECT = "object"

_INT64 = np.iinfo(np.int64)


def write_frame(frame: pd.DataFrame, file: BinaryIO) -> None:
    """Write a frame as a container.

    Parameters
    ----------
    frame : DataFrame, shape (n_samples, n_columns)
        Columns of numbers, booleans, text (`str`) or objects out of None, NaN, str, bool, int and
        float, such as `read_csv` makes.
    file : binary file
        Where to write; `map_frame` needs the container at byte 0 of its file.

    Raises
    ------
    ColumnsError
        If a dtype, a cell or the name of an axis cannot be stored.
    """
    dtypes = [_name_dtype(dtype) for dtype in frame.dtypes]
    values = [series.to_numpy() for _, series in frame.items()]
    buffers = [
        np.stack([column for column, name in zip(values, dtypes, strict=True) if name == block])
        for block in _list_blocks(dtypes)
    ]
    for column, name in zip(values, dtypes, strict=True):
        if name not in DTYPES:
            buffers += encode_column(column)[1]
    header: Header = {"frame": dtypes}
    for axis, index in (("columns", frame.columns), ("index", frame.index)):
        header[axis], axis_buffers = _encode_axis(index)
        buffers += axis_buffers
    write_container(file, header=header, buffers=buffers)


def map_frame(fd: int) -> pd.DataFrame:
    """Map a frame that `write_frame` wrote.

    Numbers and booleans stay in the file's pages until they are written to, which the file never
    sees; text and objects are decoded into memory.

    Parameters
    ----------
    fd : int
        Open for reading; it may be closed afterwards. The file must not shrink while it is mapped.

    Returns
    -------
    DataFrame, shape (n_samples, n_columns)
        The same values, cell types, dtypes, order, labels and classes of index.

    Raises
    ------
    ColumnsError
        If the file is not exactly one well-formed frame.
    """
    return _build_frame(*read_container(_map_private(fd)))


def map_matrix(fd: int) -> Array:
    """Map a frame as the matrix that its `to_numpy()` returns.

    It is a view of the mapped pages where the columns are of one numeric dtype, and else a copy;
    either can be written to, as with `to_numpy()` of a frame of several columns from `read_csv`.

    Parameters
    ----------
    fd : int
        See `map_frame`.

    Returns
    -------
    ndarray, shape (n_samples, n_columns)
        In Fortran order.

    Raises
    ------
    ColumnsError
        If the file is not exactly one well-formed frame.
    """
    header, buffers = read_container(_map_private(fd))
    frame = _build_frame(header, buffers)
    names = set(header["frame"])
    # One column alone is a read-only view in pandas, so it takes that way here too.
    if frame.shape[1] > 1 and len(names) == 1 and names <= DTYPES.keys():
        return buffers[0].T
    matrix: Array = frame.to_numpy()
    return matrix


def _name_dtype(dtype: Any) -> str:
    if isinstance(dtype, np.dtype) and dtype.kind == "O":
        return OBJECT
    if isinstance(dtype, pd.StringDtype) and dtype == TEXT_DTYPE:
        return TEXT
    if isinstance(dtype, np.dtype) and dtype.str in DTYPES:
        return dtype.str
    raise ColumnsError(f"A column of {dtype} cannot be stored.")


def _list_blocks(dtypes: Sequence[str]) -> list[str]:
    return [name for name in dict.fromkeys(dtypes) if name in DTYPES]


def _encode_axis(index: pd.Index) -> tuple[Header, list[Array]]:
    names = list(index.names)
    if any(name is not None and type(name) not in (str, int) for name in names):
        raise ColumnsError("The name of an index must be text or a whole number.")
    if isinstance(index, pd.RangeIndex):
        return {"names": names, "range": [index.start, index.stop, index.step]}, []
    levels = [index.get_level_values(level) for level in range(index.nlevels)]
    buffers = [buffer for level in levels for buffer in encode_column(level.to_numpy())[1]]
    return {"names": names, "levels": [_name_dtype(level.dtype) for level in levels]}, buffers


def _map_private(fd: int) -> mmap.mmap:
    if not os.fstat(fd).st_size:
        raise ColumnsError("The file is empty.")
    return mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)


def _build_frame(header: Header, buffers: Sequence[Array]) -> pd.DataFrame:
    match header:
        case {"frame": list(dtypes), "columns": dict(columns), "index": dict(index)}:
            _check_dtypes(dtypes)
        case _:
            raise ColumnsError("The container does not hold a frame.")
    supply = iter(buffers)
    blocks = {name: _take(supply, 1)[0] for name in _list_blocks(dtypes)}
    for name, block in blocks.items():
        if block.dtype.str != name or block.ndim != 2 or len(block) != dtypes.count(name):
            raise ColumnsError(f"The matrix of {name} columns has another dtype or shape.")
    rows = {name: iter(block) for name, block in blocks.items()}
    values = [next(rows[name]) if name in rows else _decode(name, supply) for name in dtypes]
    column_labels = _decode_axis(columns, supply)
    row_labels = _decode_axis(index, supply)
    if next(supply, None) is not None:
        raise ColumnsError("The container holds more than its frame.")
    if len(column_labels) != len(values) or any(len(row_labels) != len(v) for v in values):
        raise ColumnsError("The columns of the frame are of different lengths.")
    return _join_columns(values, row_labels=row_labels, column_labels=column_labels)


def _join_columns(
    values: Sequence[Any], *, row_labels: pd.Index, column_labels: pd.Index
) -> pd.DataFrame:
    blocks = [
        (_as_block(column), np.array([position], dtype=np.intp))
        for position, column in enumerate(values)
    ]
    # The constructor would give the blocks other strides, and make text of objects that are all
    # text. https://pandas.pydata.org/docs/reference/api/pandas.api.internals.html
    return create_dataframe_from_blocks(blocks, index=row_labels, columns=column_labels)


def _as_block(column: Any) -> Any:
    if not isinstance(column, np.ndarray):
        return column
    # Rows that pandas took of a column are in Fortran order, which is told by the strides alone
    # and is still what numpy chooses its BLAS routine by.
    return column.reshape((1, len(column)), order="F")


def _check_dtypes(dtypes: Sequence[object]) -> None:
    if not all(isinstance(name, str) for name in dtypes):
        raise ColumnsError("The container names a dtype that is none.")
    if not {TEXT, OBJECT, *DTYPES}.issuperset(dtypes):
        raise ColumnsError("The container names a dtype that cannot be stored.")


def _take(supply: Iterator[Array], count: int) -> list[Array]:
    buffers = list(islice(supply, count))
    if len(buffers) < count:
        raise ColumnsError("The container lacks a buffer of its frame.")
    return buffers


def _decode(name: str, supply: Iterator[Array]) -> Any:
    # An object column of text alone must stay one: its other cells may be in another part.
    kind = {TEXT: Kind.TEXT, OBJECT: Kind.CELLS}.get(name, Kind.RAW)
    values = decode_column(kind, _take(supply, BUFFER_COUNTS[kind]))
    if name == TEXT:
        return pd.array(values, dtype=TEXT_DTYPE)
    if values.dtype != np.dtype(name):
        raise ColumnsError(f"A column of {name} is stored as {values.dtype}.")
    return values


def _decode_axis(axis: Mapping[str, Any], supply: Iterator[Array]) -> pd.Index:
    match axis:
        case {"names": [str() | int() | None as name], "range": [_, _, _] as bounds}:
            return _build_range(bounds, name=name)
        case {"names": list(names), "levels": list(dtypes)} if 0 < len(names) == len(dtypes):
            _check_dtypes(dtypes)
        case _:
            raise ColumnsError("An index of the frame is not described.")
    if not all(isinstance(name, str | int | None) for name in names):
        raise ColumnsError("The name of an index must be text or a whole number.")
    # pandas has no index of half precision.
    if "<f2" in dtypes:
        raise ColumnsError("An index of the frame has an impossible dtype.")
    levels = [_decode(name, supply) for name in dtypes]
    if len({len(level) for level in levels}) > 1:
        raise ColumnsError("The levels of an index are of different lengths.")
    indexes = [
        pd.Index(level, dtype=level.dtype, name=name, copy=False)
        for level, name in zip(levels, names, strict=True)
    ]
    return indexes[0] if len(indexes) == 1 else pd.MultiIndex.from_arrays(indexes)


def _build_range(bounds: Sequence[object], *, name: str | int | None) -> pd.RangeIndex:
    match bounds:
        case [int(start), int(stop), int(step)] if step:
            index_range = range(start, stop, step)
        case _:
            raise ColumnsError("An index of the frame is not a range.")
    if any(not _INT64.min <= bound <= _INT64.max for bound in (start, stop, step)):
        raise ColumnsError("An index of the frame is out of range.")
    try:
        len(index_range)
    except OverflowError as error:
        raise ColumnsError("An index of the frame is too long.") from error
    return pd.RangeIndex(index_range, name=name)
