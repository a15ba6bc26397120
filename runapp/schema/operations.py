"""How an operation is described: one `Operation` for each method of a view."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from rest_framework.serializers import Serializer
from rest_framework.views import APIView

from runapp.schema.components import REFUSALS, refer_to_headers
from runapp.schema.types import Schema, refer

JSON = "application/json"
# Whatever is asked may end so.
_ALWAYS = (401, 406, 414, 429, 500, 503)
_WITH_BODY = (400, 408, 411, 413, 415)


@dataclass(frozen=True)
class Answer:
    """A success.

    Parameters
    ----------
    description : str
        What it says.
    schema : dict, optional
        Of its content; None for none.
    headers : tuple of str, optional
        Names of the headers that it may bear.
    media_type : str, optional
        Of its content.
    links : mapping, optional
        Where its values lead, as OpenAPI's links.
    """

    description: str
    schema: Schema | None = None
    headers: tuple[str, ...] = ()
    media_type: str = JSON
    links: Mapping[str, Schema] = field(default_factory=dict)

    def write(self, example: Any) -> Schema:
        """Return it as the document has it."""
        told: Schema = {"description": self.description}
        if self.schema is not None:
            content = {"schema": self.schema}
            told["content"] = {self.media_type: with_example(content, example)}
        if self.headers:
            told["headers"] = refer_to_headers(*self.headers)
        if self.links:
            told["links"] = dict(self.links)
        return told


@dataclass(frozen=True)
class Operation:
    """What one method of a view does.

    Parameters
    ----------
    id : str
        Stable: clients are generated with it. The examples are found by it.
    tag, summary, description : str
        The group; a line; more, if there is more to say.
    answers : mapping of int to Answer
        The successes by status.
    refusals : mapping of int to str or dict, optional
        Those that not every operation has, with a sentence, empty where the status says it all;
        or whole, where it has a shape of its own.
    body : type of serializer, or dict, optional
        What it takes.
    rules : dict, optional
        What must hold of the body besides.
    parameters : tuple of dict, optional
        Those that are not in the path.
    """

    id: str
    tag: str
    summary: str
    answers: Mapping[int, Answer]
    description: str = ""
    refusals: Mapping[int, str | Schema] = field(default_factory=dict)
    body: type[Serializer[Any]] | Schema | None = None
    rules: Schema = field(default_factory=dict)
    parameters: tuple[Schema, ...] = ()

    @property
    def is_body_required(self) -> bool:
        """Whether a request without a body is refused."""
        if self.body is None or isinstance(self.body, dict) or self.rules:
            return self.body is not None
        return any(taken.required for taken in self.body().fields.values())

    def write_responses(self) -> Schema:
        """Return all that it may answer."""
        examples = read_examples().get(self.id, {})
        answers = {
            status: answer.write(examples.get(str(status)))
            for status, answer in self.answers.items()
        }
        usual = _ALWAYS if self.body is None else (*_ALWAYS, *_WITH_BODY)
        refusals = {**dict.fromkeys(usual, ""), **self.refusals}
        written = {status: _write_refusal(status, why) for status, why in refusals.items()}
        return {str(status): told for status, told in sorted({**written, **answers}.items())}


OPERATIONS: dict[tuple[type[APIView], str], Operation] = {}


def describe(view: type[APIView], **operations: Operation) -> None:
    """Say what the methods of a view do: `describe(RawDataList, get=Operation(...))`."""
    for method, operation in operations.items():
        OPERATIONS[view, method.upper()] = operation


def find_operation(view: APIView, method: str) -> Operation:
    """Return the description of a view's method; a method that has none is a defect."""
    try:
        return OPERATIONS[type(view), method]
    except KeyError:
        raise LookupError(
            f"{method} of {type(view).__name__} is not described: see runapp/schema/__init__.py"
        ) from None


@cache
def read_examples() -> dict[str, dict[str, Any]]:
    """Return bodies (`body`) and answers (by status) of a real run, by operation."""
    examples: dict[str, dict[str, Any]] = json.loads(
        Path(__file__).with_name("examples.json").read_text()
    )
    return examples


def with_example(content: Schema, example: Any) -> Schema:
    """Return a media type's entry with its example, if there is one."""
    return content if example is None else {**content, "example": example}


def _write_refusal(status: int, why: str | Schema) -> Schema:
    if isinstance(why, dict):
        return why
    name, _ = REFUSALS[status]
    reference = refer("responses", name)
    return {**reference, "description": why} if why else reference
