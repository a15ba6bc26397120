"""Reads JSON bodies within bounds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import IO, Any

import orjson
from django.conf import settings
from django.http import UnreadablePostError
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from runapp.exceptions import InvalidInput, TooLarge, TooSlow

_BROKEN = "parse_error"
_BROKE_OFF = "The body ended too early."
_MOST_SHOWN = 40
# Some fields make text of what they are given, by recursion.
_MOST_DEPTH = 64
# A quote before a colon: of a key, of a text that begins with a colon, or an escaped one.
_LIKE_KEY = re.compile(rb'"[ \t\r\n]*+:')
# The next key, behind all texts that are none. Possessive: nothing of it is ever tried again.
_TEXT = rb'(?:[^"\\]|\\.)*+'
_NEXT_KEY = re.compile(
    rb'[^"]*+(?:"%b"[ \t\r\n]*+(?!:)[^"]*+)*+"(%b)"[ \t\r\n]*+:' % (_TEXT, _TEXT), re.DOTALL
)
_CONTAINERS = (dict, list)


class BoundedJSONParser(BaseParser):
    """Strict JSON: UTF-8, no NaN, no key twice, bounded depth and size."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        most = settings.MAX_BODY_BYTES
        request = (parser_context or {}).get("request")
        announced = int(request.META.get("CONTENT_LENGTH") or 0) if request is not None else 0
        body = b"" if announced > most else _read(stream, most + 1)
        if max(announced, len(body)) > most:
            raise TooLarge(f"The body is larger than the maximum of {most // 2**20} MB.")
        if len(body) < announced:
            raise ParseError(_BROKE_OFF, code=_BROKEN)
        try:
            tree = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise ParseError(f"The body is not JSON: {error}", code=_BROKEN) from error
        check_keys(body, tree)
        return tree


def _read(stream: IO[Any], most: int) -> bytes:
    try:
        body: bytes = stream.read(most)
    except UnreadablePostError as error:
        if isinstance(error.__cause__, TimeoutError):
            raise TooSlow("The body arrived too slowly.") from error
        raise ParseError(_BROKE_OFF, code=_BROKEN) from error
    return body


def check_keys(body: bytes, tree: Any) -> None:
    """Refuse a body that names a key twice in one object: parsers disagree which of them counts.

    And one that is nested deeper than any that means something.

    Keys in the text are counted, and compared with those that are left in what was made of it. The
    count takes little time: what looks like a key is found by its quote, and what only looks like
    one is told apart in the few bodies that have such.

    Raises
    ------
    InvalidInput
        When there is one.
    ParseError
        When it is too deep.
    """
    n_alike = sum(1 for _ in _LIKE_KEY.finditer(body))
    if n_alike == sum(1 for _ in _list_keys(tree)):
        return
    written = Counter(orjson.loads(b'"%b"' % key) for key in _list_written_keys(body))
    twice = written - Counter(_list_keys(tree))
    for key in twice:
        shown = key if len(key) <= _MOST_SHOWN else f"{key[:_MOST_SHOWN]}..."
        raise InvalidInput(f"The body has the key {shown!r} twice.", code="duplicate_key")


def _list_written_keys(body: bytes) -> Iterator[bytes]:
    """Yield every key of valid JSON as it is written, however often."""
    place = 0
    # Each match begins where the last one has ended: a search would look for a begin everywhere.
    while (found := _NEXT_KEY.match(body, place)) is not None:
        yield found[1]
        place = found.end()


def _list_keys(tree: Any) -> Iterator[str]:
    """Yield every key of every object, layer by layer."""
    layer, depth = [tree], 0
    while layer:
        if depth > _MOST_DEPTH:
            raise ParseError(
                f"The body is nested more than {_MOST_DEPTH} levels deep.", code=_BROKEN
            )
        below: list[Any] = []
        for found in layer:
            if type(found) is dict:
                yield from found
                below += [value for value in found.values() if type(value) in _CONTAINERS]
            elif type(found) is list:
                below += [value for value in found if type(value) in _CONTAINERS]
        layer, depth = below, depth + 1
