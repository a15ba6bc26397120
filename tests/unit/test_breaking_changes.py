"""Which changes of the document break clients; and that none has since the last release."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.breaking_changes import list_breaking_changes, may_break
from tests.openapi import read_document

RELEASES = Path(__file__).resolve().parents[2] / "docs" / "releases"

Change = Callable[[dict[str, Any]], object]


def make_document() -> dict[str, Any]:
    row = {
        "type": "object",
        "properties": {
            "id": {"type": "integer"},
            "state": {"type": "string", "enum": ["NEW", "READY"]},
            "time": {"type": ["number", "null"]},
            "at": {"type": "string", "format": "date-time"},
        },
        "required": ["id", "state"],
    }
    body = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 40},
            "count": {"type": "number", "minimum": 0},
            "priority": {"type": "string", "enum": ["H", "L"]},
            "files": {"type": "object", "additionalProperties": {"type": "string"}},
        },
        "required": ["name"],
    }
    post = {
        "operationId": "postRow",
        "parameters": [
            {"$ref": "#/components/parameters/limit"},
            {"name": "Prefer", "in": "header", "schema": {"type": "string"}},
        ],
        "security": [{"basic": []}, {"token": []}],
        "requestBody": {"content": {"application/json": {"schema": body}}},
        "responses": {
            "201": {
                "headers": {
                    "ETag": {},
                    "Retry-After": {"$ref": "#/components/headers/Retry-After"},
                },
                "content": {
                    "application/json": {
                        "schema": {"type": "array", "items": {"$ref": "#/components/schemas/Row"}}
                    }
                },
            },
            "400": {"$ref": "#/components/responses/Bad"},
        },
    }
    limit = {"name": "limit", "in": "query", "schema": {"type": "integer", "maximum": 100}}
    either = {"anyOf": [{"type": "string"}, {"type": "null"}]}
    bad = {"content": {"application/json": {"schema": either}}}
    return {
        "paths": {"/rows/": {"post": post}},
        "components": {
            "schemas": {"Row": row},
            "parameters": {"limit": limit},
            "responses": {"Bad": bad},
            "headers": {"Retry-After": {"schema": {"type": "integer"}}},
            "securitySchemes": {"token": {"type": "apiKey", "name": "X", "description": "A key."}},
        },
    }


def get_post(document: dict[str, Any]) -> dict[str, Any]:
    post: dict[str, Any] = document["paths"]["/rows/"]["post"]
    return post


def get_row(document: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = document["components"]["schemas"]["Row"]
    return row


def get_body(document: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = get_post(document)["requestBody"]["content"]["application/json"][
        "schema"
    ]
    return body


def list_after(change: Change) -> list[str]:
    new = make_document()
    change(new)
    return list_breaking_changes(make_document(), new)


BREAKING: list[tuple[Change, str]] = [
    (lambda d: d["paths"].pop("/rows/"), "POST /rows/: it is gone"),
    (lambda d: d["paths"]["/rows/"].pop("post"), "POST /rows/: it is gone"),
    (lambda d: get_post(d).update(operationId="x"), "POST /rows/: its id was postRow, now x"),
    (lambda d: get_post(d)["security"].pop(), "POST /rows/: token no longer signs in"),
    (lambda d: get_post(d)["parameters"].pop(), "POST /rows/ parameter Prefer: is gone"),
    (
        lambda d: get_post(d)["parameters"].append(
            {"name": "x", "in": "query", "required": True, "schema": {}}
        ),
        "POST /rows/ parameter x: is new and required",
    ),
    (
        lambda d: get_post(d)["parameters"][1].update(required=True),
        "POST /rows/ parameter Prefer: has become required",
    ),
    (
        lambda d: get_post(d)["parameters"][1].update(explode=False),
        "POST /rows/ parameter Prefer: its explode has changed",
    ),
    (
        lambda d: d["components"]["parameters"]["limit"]["schema"].update(maximum=99),
        "POST /rows/ parameter limit: its maximum has become 99",
    ),
    (
        lambda d: get_post(d)["requestBody"].update(required=True),
        "POST /rows/ body: has become required",
    ),
    (
        lambda d: get_post(d)["requestBody"]["content"].clear(),
        "POST /rows/ body: application/json is no longer taken",
    ),
    (
        lambda d: get_body(d)["required"].append("count"),
        "POST /rows/ body.count: has become required",
    ),
    (lambda d: get_body(d)["properties"].pop("count"), "POST /rows/ body.count: is gone"),
    (
        lambda d: get_body(d)["properties"]["count"].update(type="integer"),
        "POST /rows/ body.count: number is no longer taken",
    ),
    (
        lambda d: get_body(d)["properties"]["count"].update(minimum=1),
        "POST /rows/ body.count: its minimum has become 1",
    ),
    (
        lambda d: get_body(d)["properties"]["name"].update(minLength=1),
        "POST /rows/ body.name: its minLength has become 1",
    ),
    (
        lambda d: get_body(d)["properties"]["name"].update(pattern="^a"),
        "POST /rows/ body.name: its pattern has become ^a",
    ),
    (
        lambda d: get_body(d)["properties"]["name"].update(enum=["a"]),
        "POST /rows/ body.name: anything is no longer taken",
    ),
    (
        lambda d: get_body(d)["properties"]["priority"]["enum"].remove("L"),
        "POST /rows/ body.priority: L is no longer taken",
    ),
    (
        lambda d: get_body(d).update(additionalProperties=False),
        "POST /rows/ body: other properties are no longer taken",
    ),
    (
        lambda d: get_body(d)["properties"]["files"]["additionalProperties"].update(maxLength=5),
        "POST /rows/ body.files{}: its maxLength has become 5",
    ),
    (
        lambda d: get_body(d)["properties"].update(
            name={"anyOf": [{"type": "integer"}, {"type": "null"}]}
        ),
        "POST /rows/ body.name: one of its forms is no longer taken",
    ),
    (lambda d: get_post(d)["responses"].pop("400"), "POST /rows/ 400: is no longer answered"),
    (
        lambda d: get_post(d)["responses"]["201"]["headers"].pop("ETag"),
        "POST /rows/ 201 header ETag: is gone",
    ),
    (
        lambda d: get_post(d)["responses"]["201"]["content"].clear(),
        "POST /rows/ 201: application/json is no longer answered",
    ),
    (
        lambda d: get_post(d)["responses"].update({"202": {}}),
        "POST /rows/ 202: is a success that is new",
    ),
    (
        lambda d: d["components"]["headers"]["Retry-After"]["schema"].update(type="string"),
        "POST /rows/ 201 header Retry-After: it may now be string",
    ),
    (
        lambda d: d["components"]["securitySchemes"]["token"].update(name="Y"),
        "token: who signs in by it has to do so otherwise",
    ),
    (
        lambda d: get_body(d)["properties"]["count"].update(multipleOf=5),
        "POST /rows/ body.count: its multipleOf has changed",
    ),
    (
        lambda d: get_row(d)["properties"]["state"].update({"not": {"const": "NEW"}}),
        "POST /rows/ 201[].state: its not has changed",
    ),
    (lambda d: get_row(d)["properties"].pop("time"), "POST /rows/ 201[].time: is gone"),
    (lambda d: get_row(d)["required"].remove("id"), "POST /rows/ 201[].id: may now be missing"),
    (
        lambda d: get_row(d)["properties"]["id"].update(type=["integer", "null"]),
        "POST /rows/ 201[].id: it may now be null",
    ),
    (
        lambda d: get_row(d)["properties"]["state"]["enum"].append("OLD"),
        "POST /rows/ 201[].state: it may now be OLD",
    ),
    (
        lambda d: get_row(d)["properties"]["state"].pop("enum"),
        "POST /rows/ 201[].state: it may now be anything",
    ),
    (
        lambda d: get_row(d)["properties"]["at"].update(format="date"),
        "POST /rows/ 201[].at: its format was date-time, now date",
    ),
    (
        lambda d: d["components"]["responses"]["Bad"]["content"]["application/json"]["schema"][
            "anyOf"
        ].append({"type": "integer"}),
        "POST /rows/ 400: it may now have another form",
    ),
]
HARMLESS: list[Change] = [
    lambda d: None,
    lambda d: d["paths"].update({"/more/": {}}),
    lambda d: get_post(d).update(summary="Other words", tags=["x"], deprecated=True),
    lambda d: get_post(d)["parameters"].append({"name": "x", "in": "query", "schema": {}}),
    lambda d: get_post(d)["parameters"].reverse(),
    lambda d: get_post(d)["responses"].update({"409": {}}),
    lambda d: get_post(d)["security"].append({"key": []}),
    lambda d: d["components"]["securitySchemes"]["token"].update(description="Other words"),
    lambda d: d["components"]["parameters"]["limit"]["schema"].update(maximum=101),
    lambda d: d["components"]["parameters"]["limit"]["schema"].update(type="number"),
    lambda d: get_body(d)["properties"].update(more={"type": "string"}),
    lambda d: get_body(d)["required"].clear(),
    lambda d: get_body(d)["properties"]["count"].update(type=["number", "null"]),
    lambda d: get_body(d)["properties"]["priority"]["enum"].append("M"),
    lambda d: get_row(d)["properties"].update(more={"type": "string"}),
    lambda d: get_row(d)["properties"]["time"].update(type="integer"),
    lambda d: get_row(d)["properties"]["state"]["enum"].remove("NEW"),
    lambda d: get_row(d)["required"].append("time"),
]


@pytest.mark.parametrize(("change", "sentence"), BREAKING, ids=[words for _, words in BREAKING])
def test_change_that_breaks_clients_is_told_in_a_sentence(change: Change, sentence: str) -> None:
    assert list_after(change) == [sentence]


@pytest.mark.parametrize("number", range(len(HARMLESS)))
def test_change_that_harms_nobody_is_passed_over(number: int) -> None:
    assert list_after(HARMLESS[number]) == []


def test_documents_are_left_as_they_are() -> None:
    old, new = make_document(), make_document()
    before = copy.deepcopy((old, new))

    list_breaking_changes(old, new)

    assert (old, new) == before


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("0.1.0", "0.1.9", False),
        ("0.1.0", "0.2.0", True),
        ("0.9.0", "0.10.0", True),
        ("0.2.0", "1.0.0", True),
        ("1.0.0", "1.9.0", False),
        ("1.9.0", "2.0.0", True),
        ("2.0.0", "1.9.0", False),
    ],
)
def test_version_tells_whether_clients_may_break(old: str, new: str, expected: bool) -> None:
    assert may_break(old, new) is expected


def read_last_release() -> dict[str, Any]:
    def number(path: Path) -> list[int]:
        return [int(part) for part in path.stem.removeprefix("openapi-").split(".")]

    document: dict[str, Any] = yaml.safe_load(
        max(RELEASES.glob("openapi-*.yaml"), key=number).read_text()
    )
    return document


def test_nothing_breaks_clients_of_the_last_release() -> None:
    released, current = read_last_release(), read_document()
    versions = released["info"]["version"], current["info"]["version"]

    broken = [] if may_break(*versions) else list_breaking_changes(released, current)

    assert broken == [], f"these break clients of {versions[0]}:\n" + "\n".join(broken)


def test_release_bears_the_version_of_its_name() -> None:
    for path in RELEASES.glob("*"):
        version = yaml.safe_load(path.read_text())["info"]["version"]
        assert path.name == f"openapi-{version}.yaml"
