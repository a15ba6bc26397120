"""Small schemas that the others are made of (JSON Schema 2020-12, as OpenAPI 3.1 takes it)."""

from __future__ import annotations

from typing import Any

from runapp.common.transitions import State
from runapp.models import MAX_CLIENT_ID

Schema = dict[str, Any]

ID: Schema = {"type": "integer", "format": "int64", "minimum": 0, "maximum": MAX_CLIENT_ID}
COUNT: Schema = {"type": "integer", "minimum": 0}
TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
MOMENT: Schema = {"type": "string", "format": "date-time"}
FIGURE: Schema = {"type": "number", "minimum": 0}
FOLD_STATE: Schema = {"type": "string", "enum": [str(state) for state in State]}
PRIORITY: Schema = {"type": "string", "enum": ["H", "L"]}

# What base64 of zlib holds is told by a format of our own: there is no keyword for it.
_PACKED: Schema = {
    "type": "string",
    "contentEncoding": "base64",
    "contentMediaType": "application/zlib",
}
FILE: Schema = {**_PACKED, "format": "zlib-file"}
INDICES: Schema = {**_PACKED, "format": "zlib-int64"}
FLOATS: Schema = {**_PACKED, "format": "zlib-float64"}


def refer(kind: str, name: str) -> Schema:
    """Return a reference to a component."""
    return {"$ref": f"#/components/{kind}/{name}"}


def allow_null(schema: Schema) -> Schema:
    """Return a schema that also takes null."""
    either = {**schema, "type": [schema["type"], "null"]}
    return {**either, "enum": [*schema["enum"], None]} if "enum" in schema else either


def tell(schema: Schema, description: str) -> Schema:
    """Return a schema with a sentence about it."""
    return {**schema, "description": description}


def list_of(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}
