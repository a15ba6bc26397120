"""How all processes log: one event a line, for people (`text`) or for machines (`json`).

Existing `logging` calls go through structlog's processors, with what is bound to the work in hand
(`runapp/common/log_context.py`) and the fields that a call gives as `extra`. Knows no Django, as
gunicorn's parent logs before there is any.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Collection
from enum import StrEnum
from functools import partial
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

# What calls may give beside their sentence. All else that libraries attach stays out: Django gives
# whole requests, Celery the arguments of tasks. What work belongs to is bound, and not given.
FIELDS = frozenset(
    {
        *("action", "dataset", "outcome", "priority", "waited_seconds"),
        *("method", "path", "status", "seconds"),
    }
)
# Shorter ones are words that a log may well need.
_LEAST_SECRET_LETTERS = 8
_HIDDEN = "***"
# A password in a URL, and what an Authorization header holds.
_LOGIN = re.compile(r"(?<=://)([^/\s:@]*):[^@\s/]+@")
_CREDENTIAL = re.compile(r"\b(Basic|Bearer|Token) [A-Za-z0-9+/=._~-]{8,}")


class Form(StrEnum):
    """How a line looks."""

    TEXT = "text"
    JSON = "json"


def make_logging(*, form: Form, secrets: Collection[str] = ()) -> dict[str, Any]:
    """Return the configuration of `logging` that Django's processes share.

    Parameters
    ----------
    form : Form
        How a line looks.
    secrets : collection of str, optional
        What no line shows, whoever logs it.
    """
    line = {"()": make_formatter, "form": form, "secrets": list(secrets)}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": line},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": "INFO"},
    }


def make_formatter(*, form: Form, secrets: Collection[str] = ()) -> logging.Formatter:
    """Return what makes a line of a record, for `make_logging` and for who has other handlers."""
    render = {Form.TEXT: render_text, Form.JSON: render_json}[form]
    given = {secret for secret in secrets if len(secret) >= _LEAST_SECRET_LETTERS}
    # JSON writes quotes and letters beyond ASCII otherwise.
    written = given | {json.dumps(secret)[1:-1] for secret in given}
    # The longest first, as one may hold another.
    hidden = sorted(written, key=len, reverse=True)
    return structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            partial(_render_safely, render=render, secrets=tuple(hidden)),
        ],
        foreign_pre_chain=_PROCESSORS,
    )


_PROCESSORS: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.ExtraAdder(allow=FIELDS),
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    structlog.processors.format_exc_info,
]


def render_json(event: EventDict) -> str:
    """Return an event as one JSON object, what and when first."""
    first = {name: event[name] for name in ("time", "level", "logger", "event")}
    return json.dumps({**first, **event}, default=str)


def render_text(event: EventDict) -> str:
    """Return an event as a line for people; a stack trace follows in lines of its own."""
    time, level, logger, sentence = (
        event.pop(name) for name in ("time", "level", "logger", "event")
    )
    trace = event.pop("exception", None)
    bound = " ".join(f"{name}={value}" for name, value in sorted(event.items()) if name in _SHOWN)
    line = f"{time[:23]}Z {level.upper()} {logger}: {sentence}{bound and f' [{bound}]'}"
    return line if trace is None else f"{line}\n{trace}"


# The rest stands in the sentence.
_SHOWN = frozenset({"request", "task", "keeper"})


def _render_safely(
    _: WrappedLogger, __: str, event: EventDict, *, render: Any, secrets: tuple[str, ...]
) -> str:
    line: str = render(event)
    line = _LOGIN.sub(rf"\1:{_HIDDEN}@", line)
    line = _CREDENTIAL.sub(rf"\1 {_HIDDEN}", line)
    for secret in secrets:
        line = line.replace(secret, _HIDDEN)
    return line
