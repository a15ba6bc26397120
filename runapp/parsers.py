"""Reads JSON bodies within a bound."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

import orjson
from django.conf import settings
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from runapp.exceptions import TooLarge


class BoundedJSONParser(BaseParser):
    """Strict JSON: UTF-8, no NaN, bounded depth; a body over the limit is not read whole."""

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
        body = b"" if announced > most else stream.read(most + 1)
        if max(announced, len(body)) > most:
            raise TooLarge(f"The body is larger than the {most // 2**20} MB that are taken.")
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise ParseError(f"The body is not JSON: {error}") from error
