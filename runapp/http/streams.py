"""JSON arrays written while they are read, with bounded memory, and packed where it pays."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import orjson
from django.conf import settings
from django.db import connection
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers

Row = dict[str, Any]

# Of less, the headers are most.
_LEAST_BYTES_TO_PACK = 1024
# The fastest level: rows of lists shrink to a tenth all the same.
_LEVEL = 1
_GZIP = 16 + zlib.MAX_WBITS
_ACCEPTS_GZIP = re.compile(
    r"(?:^|[,\s])gzip(?![\w-])(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))", re.ASCII | re.IGNORECASE
)


def write_array(pieces: Iterable[list[Row]]) -> Iterator[bytes]:
    """Yield the text of an array of rows, piece by piece.

    An error on the way is raised to the server, which breaks the connection off: an array that was
    closed would look whole.
    """
    before = b"["
    for piece in pieces:
        if piece:
            yield before + dump(piece)[1:-1]
            before = b","
    yield b"[]" if before == b"[" else b"]"


def dump(value: Any) -> bytes:
    """Return a value as JSON; moments in UTC end in Z."""
    return orjson.dumps(value, option=orjson.OPT_UTC_Z)


def answer_array(pieces: Iterator[list[Row]]) -> HttpResponseBase:
    """Return a response of an array that is read while it is sent, if it has several pieces.

    The first ones are read now, so that what goes wrong there has a status.
    """
    first = next(pieces, [])
    second = next(pieces, None)
    if second is None:
        return answer_rows(first)
    return StreamingHttpResponse(
        write_array(chain([first, second], pieces)), content_type="application/json"
    )


def answer_rows(rows: list[Row]) -> HttpResponseBase:
    """Return a response of rows that are all there."""
    return HttpResponse(dump(rows), content_type="application/json")


def pack(response: HttpResponseBase, *, accepts: str) -> bool:
    """Compress a response's content if its client takes that and it is worth it; tell whether."""
    patch_vary_headers(response, ["Accept-Encoding"])
    if not _ACCEPTS_GZIP.search(accepts):
        return False
    if isinstance(response, StreamingHttpResponse):
        content: Iterable[bytes] = response.streaming_content  # type: ignore[assignment]
        response.streaming_content = _pack_pieces(content)
    elif isinstance(response, HttpResponse) and len(response.content) >= _LEAST_BYTES_TO_PACK:
        response.content = b"".join(_pack_pieces([response.content]))
    else:
        return False
    response.headers["Content-Encoding"] = "gzip"
    return True


def _pack_pieces(pieces: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    for piece in pieces:
        if packed := packer.compress(piece):
            yield packed
    yield packer.flush()


def release_connection() -> None:
    """Give the database connection back while a client reads or waits; the next query takes one."""
    # SQLite's costs nobody anything, and is not pooled.
    if settings.WEB_POOL and not connection.in_atomic_block:
        connection.close()
