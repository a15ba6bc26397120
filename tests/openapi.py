"""The OpenAPI document as a judge of answers."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import jsonschema
from django.http.response import HttpResponseBase
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from runapp.schema.views import OneAtATime

Schema = dict[str, Any]
_URI = "urn:document"


@cache
def read_document() -> Schema:
    """Return the document that the code makes."""
    document: Schema = OneAtATime().get_schema(request=None, public=True)
    return document


def close(part: Any) -> Any:
    """Return a part of the document in which objects have no properties but those it names."""
    if isinstance(part, list):
        return [close(item) for item in part]
    if not isinstance(part, dict):
        return part
    closed = {name: close(value) for name, value in part.items()}
    if part.get("type") == "object" and "properties" in part:
        closed.setdefault("additionalProperties", False)
    return closed


@cache
def make_registry() -> Registry[Any]:
    resource = Resource.from_contents(close(read_document()), default_specification=DRAFT202012)
    return Registry().with_resource(_URI, resource)


@dataclass(frozen=True)
class Judged:
    """An operation and what it answered."""

    operation_id: str
    status: int


def find_operation(method: str, path: str) -> tuple[str, Schema] | None:
    """Return the pointer to the operation of a request, and the operation."""
    for template, operations in read_document()["paths"].items():
        pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template))
        if re.fullmatch(pattern, path) and method.lower() in operations:
            if _is_literal_elsewhere(template, path):
                continue
            pointer = f"/paths/{template.replace('/', '~1')}/{method.lower()}"
            return pointer, operations[method.lower()]
    return None


def _is_literal_elsewhere(template: str, path: str) -> bool:
    """Tell whether a path is one of the document's own, and not only of a template's form."""
    return template != path and path in read_document()["paths"]


def follow(pointer: str, part: Schema) -> tuple[str, Schema]:
    """Return where a part lies that may be a reference, and the part."""
    if "$ref" not in part:
        return pointer, part
    target = part["$ref"].removeprefix("#")
    found: Any = read_document()
    for step in target.strip("/").split("/"):
        found = found[step]
    return target, found


def check_answer(
    *, method: str, path: str, status: int, headers: Any, content: bytes | None
) -> Judged | None:
    """Check an answer against the document; None where it says nothing of the request.

    Parameters
    ----------
    content : bytes or None
        The body; None when it cannot be read here.
    """
    found = find_operation(method, path)
    if found is None:
        return None
    pointer, operation = found
    told = operation["responses"].get(str(status))
    assert told is not None, f"{method} {path} answered {status}, which the document does not say"
    where, answer = follow(f"{pointer}/responses/{status}", told)
    _check_headers(answer, headers, told_by=f"{method} {path}: {status}")
    if content is not None:
        _check_content(where, answer, headers.get("Content-Type"), content)
    return Judged(operation["operationId"], status)


# Ours, or with a meaning of ours: these are all told.
_OUR_HEADERS = {
    "etag",
    "link",
    "datarun-cursor",
    "retry-after",
    "preference-applied",
    "www-authenticate",
}


def _check_headers(answer: Schema, headers: Any, *, told_by: str) -> None:
    told = {name.lower() for name in answer.get("headers", {})}
    untold = {name.lower() for name in headers} & _OUR_HEADERS - told
    assert not untold, f"{told_by}: the document does not tell of {untold}"
    for name, told_header in answer.get("headers", {}).items():
        where, header = follow("", told_header)
        if name in headers:
            value = headers[name]
            as_read = int(value) if header["schema"].get("type") == "integer" else value
            _validate(f"{where}/schema", as_read)


def _check_content(where: str, answer: Schema, media_type: str | None, content: bytes) -> None:
    told = answer.get("content")
    if told is None:
        assert content == b""
        return
    assert media_type in told, f"{media_type} is not among {list(told)}"
    if media_type == "application/json":
        _validate(f"{where}/content/application~1json/schema", json.loads(content))


def _validate(pointer: str, value: Any) -> None:
    quoted = pointer.replace("{", "%7B").replace("}", "%7D")
    validator = jsonschema.Draft202012Validator(
        {"$ref": f"{_URI}#{quoted}"}, registry=make_registry()
    )
    validator.validate(value)


def check_response(method: str, path: str, response: HttpResponseBase) -> Judged | None:
    """Check an answer of Django's test client; a stream is left to who reads it."""
    content = None if response.streaming else response.content  # type: ignore[attr-defined]
    if content is not None and response.headers.get("Content-Encoding") == "gzip":
        content = gzip.decompress(content)
    return check_answer(
        method=method,
        path=path,
        status=response.status_code,
        headers=response.headers,
        content=content,
    )
