"""The OpenAPI document: complete, as committed, and with examples that it fits itself."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from django.conf import settings
from django.urls import URLPattern, URLResolver, get_resolver
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.validation import validate_schema

from runapp.models import Predictions
from runapp.schema import columns
from runapp.schema.operations import OPERATIONS, read_examples
from tests.openapi import close, follow, make_registry, read_document
from tests.unit.test_documentation import list_fold_codes

PROJECT = Path(__file__).resolve().parents[2]
_URI = "urn:document"
# Said in the introduction: no operation is one that there is not.
_UNUSED = {"#/components/responses/MethodNotAllowed", "#/components/headers/Allow"}


def list_operations() -> dict[str, tuple[str, dict[str, Any]]]:
    """Return every operation by its id, with the pointer to it."""
    return {
        operation["operationId"]: (f"/paths/{path.replace('/', '~1')}/{method}", operation)
        for path, operations in read_document()["paths"].items()
        for method, operation in operations.items()
    }


def list_views(patterns: list[Any]) -> Iterator[type]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from list_views(pattern.url_patterns)
        elif isinstance(pattern, URLPattern):
            yield pattern.callback.cls


def walk(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict):
        yield part
    for inner in (
        part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    ):
        yield from walk(inner)


def list_examples() -> Iterator[tuple[str, Any]]:
    """Yield the pointer to the schema of every example, and the example."""
    for name, (pointer, operation) in list_operations().items():
        examples = read_examples().get(name.removesuffix("Alias"), {})
        for key, example in examples.items():
            where = f"{pointer}/requestBody"
            if key != "body":
                where, _ = follow(f"{pointer}/responses/{key}", operation["responses"][key])
            yield f"{where}/content/application~1json/schema", example


def test_document_is_the_committed_one() -> None:
    committed = yaml.safe_load((PROJECT / "docs" / "openapi.yaml").read_text())

    assert committed == read_document(), "docs/openapi.yaml is old: run `make openapi`"


def test_document_is_valid_and_raises_no_warning() -> None:
    GENERATOR_STATS.reset()

    validate_schema(read_document.__wrapped__())

    assert not GENERATOR_STATS


def test_document_bears_the_version_of_the_project() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]

    assert read_document()["info"]["version"] == project["version"]


def test_every_method_of_every_route_is_described_and_no_other() -> None:
    (api,) = [
        pattern
        for pattern in get_resolver().url_patterns
        if isinstance(pattern, URLResolver) and str(pattern.pattern) == "runapp/"
    ]
    methods = ("get", "post", "put", "patch", "delete")

    routed = {
        (view, method.upper())
        for view in list_views(api.url_patterns)
        for method in methods
        if hasattr(view, method)
    }

    assert routed == set(OPERATIONS)


def test_operation_ids_are_unique() -> None:
    ids = [operation.id for operation in OPERATIONS.values()]

    assert len(set(ids)) == len(ids)


def test_operations_have_a_summary_a_known_tag_and_an_example() -> None:
    tags = {tag["name"] for tag in read_document()["tags"]}

    for name, (_, operation) in list_operations().items():
        assert operation["summary"], name
        assert set(operation["tags"]) <= tags, name
        assert (
            "requestBody" not in operation or "body" in read_examples()[name.removesuffix("Alias")]
        )


def test_examples_belong_to_operations() -> None:
    assert set(read_examples()) <= set(list_operations())


@pytest.mark.parametrize(
    ("pointer", "example"),
    list(list_examples()),
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_example_is_as_the_document_says(pointer: str, example: Any) -> None:
    quoted = pointer.replace("{", "%7B").replace("}", "%7D")

    jsonschema.Draft202012Validator(
        {"$ref": f"{_URI}#{quoted}"}, registry=make_registry()
    ).validate(example)


def test_components_are_all_used() -> None:
    document = read_document()
    made = {
        f"#/components/{kind}/{name}"
        for kind in ("schemas", "responses", "headers", "parameters")
        for name in document["components"][kind]
    }

    used = {part["$ref"] for part in walk(document) if isinstance(part.get("$ref"), str)}

    assert used | _UNUSED == made


def test_links_lead_to_operations_that_take_what_they_carry() -> None:
    operations = list_operations()
    links = [part for part in walk(read_document()) if "operationId" in part and "tags" not in part]

    assert links
    for link in links:
        _, target = operations[link["operationId"]]
        taken = {parameter.get("name") for parameter in target.get("parameters", [])}
        assert set(link.get("parameters", {})) <= taken, link
        assert "requestBody" in target or "requestBody" not in link, link


def test_shapes_are_all_those_of_a_column() -> None:
    shown = {name for row in columns.make_rows().values() for name in row["properties"]}

    for shapes in (columns._FOLD, columns._SUBMISSION, columns._RAW_DATA):
        unused = set(shapes) - shown
        assert unused == set()


def test_codes_are_those_of_the_code() -> None:
    assert set(columns.FOLD_CODES) == list_fold_codes()
    assert set(columns.SPLIT_CODES) <= list_fold_codes()


def test_words_that_the_settings_repeat_are_those_of_the_code() -> None:
    document = read_document()
    path = "/runapp/submissionfold/{databoard_sf_id}/predictions/{part}/"
    (part,) = [p for p in document["paths"][path]["get"]["parameters"] if p.get("name") == "part"]
    schemas = document["components"]["schemas"]

    assert part["schema"]["enum"] == Predictions.Part.values
    assert set(schemas["LimitsInForce"]["properties"]) == set(settings.MAX_LIMITS)
    assert set(schemas["RawDataInput"]["properties"]["limits"]["properties"]) == set(
        settings.MAX_LIMITS
    )


def test_closed_object_refuses_a_property_that_it_does_not_name() -> None:
    closed = close({"type": "object", "properties": {"a": {"type": "string"}}})

    assert not jsonschema.Draft202012Validator(closed).is_valid({"b": 1})
