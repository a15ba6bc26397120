"""What many operations share: refusals, headers, parameters and rows, by name."""

from __future__ import annotations

from typing import Any

from runapp.queries import MOST_ROWS
from runapp.schema.accounts import ACCOUNT_SCHEMAS
from runapp.schema.columns import make_rows
from runapp.schema.types import FLAG, ID, INDICES, MOMENT, TEXT, Schema, list_of, refer, tell
from runapp.waiting import MOST_SECONDS

_ERRORS: Schema = {
    "type": "array",
    "minItems": 1,
    "description": "The same for programs.",
    "items": {
        "type": "object",
        "properties": {
            "field": tell({"type": ["string", "null"]}, "Null if it does not concern a field."),
            "code": tell(TEXT, "Stable; docs/api.md lists them."),
            "message": TEXT,
        },
        "required": ["field", "code", "message"],
    },
}
_REFUSAL: Schema = {
    "type": "object",
    "description": "What was refused and why.",
    "properties": {"detail": TEXT, "errors": _ERRORS},
    "required": ["detail", "errors"],
}
_INVALID: Schema = {
    "type": "object",
    "description": "Messages by field name; under `detail` those that do not concern a field.",
    "properties": {"errors": _ERRORS},
    "required": ["errors"],
    "additionalProperties": {"anyOf": [TEXT, list_of(TEXT)]},
}
_SPECIFIC_MISSING: Schema = {
    "type": "object",
    "description": "Several files without a Python module.",
    "properties": {"error": TEXT},
    "required": ["error"],
}
_FOLD_INDICES: Schema = {
    "type": "object",
    "description": "One of the folds.",
    "properties": {
        "fold": {"type": "integer", "minimum": 0},
        "train_is": tell(INDICES, "Row positions in the train part, int64."),
        "test_is": tell(INDICES, "Row positions in the train part, int64."),
    },
    "required": ["fold", "train_is", "test_is"],
}
_TASK: Schema = {
    "type": "object",
    "properties": {"task_id": tell(TEXT, "Names the wake-up message, for logs.")},
    "required": ["task_id"],
}
_LIMIT_NAMES = ("wall_seconds", "cpu_seconds", "memory_mb", "processes", "scratch_mb", "output_kb")
_LIMITS_IN_FORCE: Schema = {
    "type": "object",
    "description": "The limits of each fold, all six.",
    "properties": {name: {"type": "number", "exclusiveMinimum": 0} for name in _LIMIT_NAMES},
    "required": list(_LIMIT_NAMES),
}
_BULK_ANSWER: Schema = {
    "type": "object",
    "description": "What `POST submissionfold/` would have returned for this fold.",
    "properties": {
        "status": {"type": "integer", "minimum": 201, "maximum": 599},
        "body": {
            "description": "The fold, or the refusal.",
            "anyOf": [refer("schemas", "BulkSubmissionFold"), refer("schemas", "InvalidInput")],
        },
    },
    "required": ["status", "body"],
}

SCHEMAS = {
    **make_rows(),
    **ACCOUNT_SCHEMAS,
    "LimitsInForce": _LIMITS_IN_FORCE,
    "FoldIndices": _FOLD_INDICES,
    "Task": _TASK,
    "BulkAnswer": _BULK_ANSWER,
    "Refusal": _REFUSAL,
    "InvalidInput": _INVALID,
    "SpecificMissing": _SPECIFIC_MISSING,
}

HEADERS: dict[str, Schema] = {
    "ETag": {
        "description": "Identifies this response; send it back as `If-None-Match`.",
        "schema": TEXT,
    },
    "Link": {
        "description": 'The next page: `<...>; rel="next"`. The last page has none.',
        "schema": TEXT,
    },
    "Datarun-Cursor": {
        "description": "Send it back as `updated_since` to get only what has changed since.",
        "schema": TEXT,
    },
    "Retry-After": {
        "description": "The number of seconds after which to try again.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "Preference-Applied": {
        "description": "The applied `Prefer`: `wait=N`; 0 if too many requests are waiting.",
        "schema": {"type": "string", "pattern": "^wait=[0-9]+$"},
    },
    "RateLimit-Policy": {
        "description": "The quotas in force that the request counts towards (an IETF draft).",
        "schema": TEXT,
    },
    "RateLimit": {
        "description": "What is left of each quota, and the seconds until it resets.",
        "schema": TEXT,
    },
    "WWW-Authenticate": {"description": "`Basic`.", "schema": TEXT},
    "Allow": {"description": "The supported methods.", "schema": TEXT},
}


def _refuse(
    description: str, schema: str = "Refusal", headers: tuple[str, ...] = (), **optional: Any
) -> Schema:
    answer: Schema = {
        "description": description,
        "content": {"application/json": {"schema": refer("schemas", schema), **optional}},
    }
    if headers:
        answer["headers"] = refer_to_headers(*headers)
    return answer


def refer_to_headers(*names: str) -> Schema:
    """Return headers that an answer may bear."""
    return {name: refer("headers", name) for name in names}


_LIMIT_IS_ZERO = "Must be a whole number from 1 to 10000."
_EXAMPLE = {
    "limit": [_LIMIT_IS_ZERO],
    "errors": [{"field": "limit", "code": "invalid", "message": _LIMIT_IS_ZERO}],
}

# By status; the name is the component's.
REFUSALS: dict[int, tuple[str, Schema]] = {
    400: (
        "BadRequest",
        _refuse("A parameter or the body is invalid.", "InvalidInput", example=_EXAMPLE),
    ),
    401: (
        "Unauthorized",
        _refuse("There are no credentials, or they are wrong.", headers=("WWW-Authenticate",)),
    ),
    403: ("Forbidden", _refuse("The account can see it but may not do this.")),
    404: ("NotFound", _refuse("There is no such object that the account can see.")),
    405: (
        "MethodNotAllowed",
        _refuse("The path does not support this method.", headers=("Allow",)),
    ),
    406: ("NotAcceptable", _refuse("`Accept` names no type that this path returns.")),
    408: ("Timeout", _refuse("The body arrived too slowly.")),
    409: ("Conflict", _refuse("The request conflicts with what exists.")),
    410: (
        "Gone",
        _refuse(
            "The cursor was issued before something was deleted or restored: start again.",
            "InvalidInput",
        ),
    ),
    411: ("LengthRequired", _refuse("The body was sent in chunks, without a `Content-Length`.")),
    413: (
        "TooLarge",
        _refuse("The body, or what it unpacks to, is larger than the server accepts."),
    ),
    414: (
        "URITooLong",
        {
            "description": "From the web server itself: the address is longer than 4 kB.",
            "content": {"text/html": {"schema": TEXT}},
        },
    ),
    415: ("UnsupportedMediaType", _refuse("The body is not `application/json`.")),
    429: (
        "TooMany",
        _refuse(
            "Too many requests or wrong passwords, or a quota would be exceeded.",
            headers=("Retry-After", "RateLimit-Policy", "RateLimit"),
        ),
    ),
    500: ("ServerError", _refuse("A fault of datarun; it has been logged.")),
    503: (
        "Unavailable",
        _refuse(
            "The database or the storage is busy, full or unavailable.", headers=("Retry-After",)
        ),
    ),
}


# An empty filter is none.
_FILTER = {"allowEmptyValue": True}


def _query(name: str, description: str, schema: Schema, **optional: Any) -> Schema:
    told = {"name": name, "in": "query", "description": description, "schema": schema}
    return {**told, **optional}


def make_words(name: str, words: list[str], description: str, **optional: Any) -> Schema:
    """Return a parameter that takes several words with commas between."""
    some = list_of({"type": "string", "enum": words})
    return _query(name, description, some, style="form", explode=False, **optional)


def make_filter(name: str, words: list[str]) -> Schema:
    """Return a parameter that keeps the rows whose column has one of some words."""
    return make_words(name, words, f"Only rows whose {name} is one of these.", **_FILTER)


PARAMETERS: dict[str, Schema] = {
    "limit": _query(
        "limit",
        "The most rows per page.",
        {"type": "integer", "minimum": 1, "maximum": MOST_ROWS},
    ),
    "cursor": _query("cursor", "Where a page begins; it is part of the `Link`.", TEXT),
    "updated_since": _query(
        "updated_since",
        "Only rows that have changed since this `Datarun-Cursor`; `0` starts with all.",
        TEXT,
        example="0",
    ),
    "owner": _query(
        "owner", "The account whose rows are meant, for accounts that can see several.", TEXT
    ),
    "actor": _query("actor", "By this account, by its name at the time.", TEXT, **_FILTER),
    "target": _query("target", "About the object with this id.", TEXT, **_FILTER),
    "address": _query("address", "From this address.", TEXT, **_FILTER),
    "since": _query("since", "From this moment on.", MOMENT, **_FILTER),
    "until": _query("until", "Before this moment.", MOMENT, **_FILTER),
    "newest_first": _query("newest_first", "Reverse the order.", FLAG),
    "raw_data": _query("raw_data", "Only rows of this dataset.", ID, **_FILTER),
    "databoard_s": _query("databoard_s", "Only rows of this submission.", ID, **_FILTER),
    "priority": make_filter("priority", ["H", "L"]),
    "If-None-Match": {
        "name": "If-None-Match",
        "in": "header",
        "description": "`ETag`s that the client has; if one is still valid, the response is 304.",
        "schema": TEXT,
    },
    "Prefer": {
        "name": "Prefer",
        "in": "header",
        "description": f"`wait=N` waits for something new, at most {MOST_SECONDS} seconds.",
        "schema": TEXT,
        "example": "wait=1",
    },
}


def add_components(result: Schema, **_: Any) -> Schema:
    """Add to the document what operations refer to; drf-spectacular calls it."""
    components = result["components"]
    components["schemas"] = dict(sorted({**components["schemas"], **SCHEMAS}.items()))
    components["responses"] = dict(REFUSALS.values())
    components["headers"] = HEADERS
    components["parameters"] = PARAMETERS
    return result
