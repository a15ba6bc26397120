"""What schemathesis cannot know: our encodings, and which refusals no schema can tell ahead.

schemathesis loads this module by its path (`test_openapi.py`).
"""

from __future__ import annotations

import base64
import re
import struct
import zlib
from typing import Any

import schemathesis
from hypothesis import strategies as st

_CSV = b"length,width,species\n" + b"".join(
    b"%d,%d,%s\n" % (row, row % 7, b"abc"[row % 3 : row % 3 + 1]) for row in range(30)
)
_CODE = b"class Classifier:\n    pass\n"

# Refusals that depend on what is there, on the server's settings, or on several fields: some have a
# code of their own, some fields are `invalid` for such reasons only once their schema is kept.
_FIELDS = {
    "databoard_s_id",
    "raw_data_id",
    "raw_data",
    "files",
    "workflow_elements",
    "n_splits",
    "train_is",
    "test_is",
}
_CODES = {
    "unique",
    "does_not_exist",
    "missing_file",
    "contradictory",
    "control_character",
    "wrong_password",
    "bad_name",
    "bad_cursor",
    "over_maximum",
    "blank",
    "required",
    "unknown",
    "conflict",
    "null_characters_not_allowed",
    "surrogate_characters_not_allowed",
}


def _pack(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode()


def _pack_numbers(numbers: list[int]) -> str:
    return _pack(struct.pack(f"<{len(numbers)}q", *numbers))


schemathesis.openapi.format(
    "zlib-file", st.one_of(st.sampled_from([_CSV, _CODE]), st.binary(max_size=40)).map(_pack)
)
schemathesis.openapi.format(
    "zlib-int64",
    st.lists(st.integers(0, 30), min_size=1, max_size=8, unique=True).map(_pack_numbers),
)


# Random files make no workflow; without some that do, nothing is ever posted to be linked to.
_SOUND = {
    "postRawData": {
        "target_column": "species",
        "workflow_elements": "classifier",
        "files": {"data.csv": _pack(_CSV)},
    },
    "postShare": {"account": "neighbour", "group": None},
    "postSubmissionFold": {"files": {"classifier.py": _pack(_CODE)}, "force": None},
}


@schemathesis.hook
def map_case(ctx: schemathesis.HookContext, case: schemathesis.Case) -> schemathesis.Case:
    """Make most of the good posts such as succeed."""
    sound = _SOUND.get(case.operation.definition.raw.get("operationId", ""))
    if sound and _is_good(case) and isinstance(case.body, dict) and len(str(case.body)) % 4:
        case.body = {**case.body, **sound}
    return case


def _is_good(case: schemathesis.Case) -> bool:
    return case.meta is not None and case.meta.generation.mode.is_positive


@schemathesis.hook
def filter_query(ctx: schemathesis.HookContext, query: Any) -> bool:
    """Leave out empty filters: they are none, which `allowEmptyValue` tells to others only."""
    values = (query or {}).values()
    return not any(word in ("", None, [], {}) for value in values for word in _list_words(value))


def _list_words(value: Any) -> list[Any]:
    return value or [""] if isinstance(value, list) else [value]


@schemathesis.hook
def filter_body(ctx: schemathesis.HookContext, body: Any) -> bool:
    """Leave out texts of numbers and flags: they are taken, though the document does not say so."""
    return not (isinstance(body, dict) and any(map(_is_text_of_value, body.values())))


def _is_text_of_value(value: Any) -> bool:
    words = r"\s*[-+]?[\d_.]+(e[-+]?\d+)?\s*|true|false"
    return isinstance(value, str) and re.fullmatch(words, value, re.IGNORECASE) is not None


@schemathesis.hook
def map_body(ctx: schemathesis.HookContext, body: Any) -> Any:
    """Write the 5.0 of a list as 5: a schema takes both for an integer, lists of ids do not."""
    if isinstance(body, dict):
        return {name: map_body(ctx, value) for name, value in body.items()}
    if isinstance(body, list):
        return [int(v) if isinstance(v, float) and v.is_integer() else v for v in body]
    return body


@schemathesis.check
def refusals_of_good_data_have_a_reason(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """Where a schema is kept, a 400 names what the schema cannot say."""
    if response.status_code == 400 and _is_good(case):
        errors = response.json()["errors"]
        told = [e for e in errors if e["code"] not in _CODES and e["field"] not in _FIELDS]
        assert told == [], "refused, though the schema takes it"
