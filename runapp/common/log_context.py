"""The request that work in hand belongs to, in every line that is logged meanwhile."""

from __future__ import annotations

import re
import secrets
from contextlib import AbstractContextManager

from structlog.contextvars import bound_contextvars, get_contextvars

HEADER = "X-Request-ID"
_SANE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


def accept_request_id(given: str | None) -> str:
    """Return the id that a request brings if it is a sane token, else a new one."""
    return given if given and _SANE.fullmatch(given) else secrets.token_hex(8)


def get_request_id() -> str:
    """Return the id of the request that is being answered, "" where there is none."""
    request_id: str = get_contextvars().get("request", "")
    return request_id


def following(**bound: object) -> AbstractContextManager[None]:
    """Put what is in hand into every line that this thread logs within the block.

    Parameters
    ----------
    **bound : object
        By the names of `datarun/logs.py`; what is empty or None is left out.
    """
    return bound_contextvars(**{name: value for name, value in bound.items() if value})
