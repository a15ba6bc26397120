"""Describes a list from what its view says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runapp.filters import WordsFilter
from runapp.schema.components import PARAMETERS, SCHEMAS, make_filter, make_words
from runapp.schema.operations import Answer, Operation, describe
from runapp.schema.types import Schema, list_of, refer
from runapp.views.lists import ListView

NOT_MODIFIED = "What the client has is still valid."
_PAGED = ("limit", "cursor")
_HEADERS = ("ETag", "Link")
_WAITS = ("Preference-Applied", "Retry-After")


def describe_list(
    view: type[ListView], *, row: str, refusals: Mapping[int, str] | None = None, **told: Any
) -> None:
    """Describe the `get` of a list.

    Parameters
    ----------
    view : type of ListView
        Its filters, and whether it tells changes and waits, are read from it.
    row : str
        The name of the schema of its rows.
    refusals : mapping of int to str, optional
        Those that not every list has.
    **told
        Further parameters of `Operation`.
    """
    changes = ("Datarun-Cursor",) if view.has_changes else ()
    waits = _WAITS if view.may_wait else ()
    unmodified = Answer(NOT_MODIFIED, headers=("ETag", *changes, *waits))
    whole = Answer(
        "The rows, oldest first; changes are in the order in which they were made.",
        list_of(refer("schemas", row)),
        headers=(*_HEADERS, *changes, *waits),
    )
    operation = Operation(
        answers={200: whole, 304: unmodified},
        refusals={
            400: "A parameter is unknown or invalid.",
            404: "",
            410: "",
            **(refusals or {}),
        },
        parameters=tuple(_list_parameters(view, row)),
        **told,
    )
    describe(view, get=operation)


def _list_parameters(view: type[ListView], row: str) -> list[Schema]:
    changes = ("updated_since",) if view.has_changes else ()
    owner = ("owner",) if view.has_owners else ()
    turned = ("newest_first",) if view.may_turn else ()
    waits = ("Prefer",) if view.may_wait else ()
    fields = make_words("fields", list(SCHEMAS[row]["properties"]), "The columns to return.")
    filters = [_tell_filter(name, kind) for name, kind in view.filters.base_filters.items()]
    shared = [refer("parameters", name) for name in (*_PAGED, *changes, *owner, *turned)]
    headers = [refer("parameters", name) for name in ("If-None-Match", *waits)]
    return [*shared, fields, *filters, *headers]


def _tell_filter(name: str, kind: Any) -> Schema:
    if name in PARAMETERS:
        return refer("parameters", name)
    assert isinstance(kind, WordsFilter), name
    words = [word for word, _ in kind.extra["choices"]]
    return make_filter(name, words)
