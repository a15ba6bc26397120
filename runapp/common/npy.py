"""Arrays in numpy's own file format, for clients that have it."""

from __future__ import annotations

import io
from collections.abc import Sequence

from numpy.lib import format as npy_format

MEDIA_TYPE = "application/x-npy"


def write_array(content: bytes, *, shape: Sequence[int]) -> bytes:
    """Return an array as a file of numpy's format.

    Parameters
    ----------
    content : bytes
        float64, little endian, C order.
    shape : sequence of int
        Its shape.

    Returns
    -------
    bytes
        What `numpy.load` reads.

    Notes
    -----
    Version 1.0 of the format: numpy.lib.format, NEP 1.
    """
    file = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": tuple(shape)}
    npy_format.write_array_header_1_0(file, header)
    return file.getvalue() + content
