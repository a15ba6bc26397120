"""What of a new OpenAPI document breaks clients that were written for an older one.

A client breaks when it may no longer send what it sent, or is answered what it was not told of.
So what is sent may become more, and what is answered less: a new property of an answer harms nobody
who was told to pass over it, a new required property of a body harms everybody. Descriptions,
examples, links, tags and refusals that are new do not count, nor do bounds of what is answered. A
keyword of JSON Schema that is not compared here may not change at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]
Schema = dict[str, Any]

METHODS = ("get", "post", "put", "patch", "delete", "head", "options")
_LEAST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_MOST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_FORMS = ("format", "contentEncoding", "contentMediaType")
_INNER = {"items": "[]", "additionalProperties": "{}", "propertyNames": "{name}"}
_COMPARED = {
    *("type", "enum", "anyOf", "pattern", "properties", "required"),
    *(*_LEAST, *_MOST, *_FORMS, *_INNER),
}
_SAYS_NOTHING = {"title", "description", "example", "examples", "default", "deprecated"}
_ALL_TYPES = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})


def list_breaking_changes(old: Document, new: Document) -> list[str]:
    """Return a sentence for each change that breaks clients."""
    both = Comparison(old, new)
    return [*_compare_sign_ins(both), *_compare_paths(both)]


def may_break(old: str, new: str) -> bool:
    """Tell whether a version may break what an older one promised (Semantic Versioning 2.0.0).

    Before 1.0.0 the second number is raised for it, from then on the first.
    """
    return _find_line(new) > _find_line(old)


def _find_line(version: str) -> tuple[int, int]:
    major, minor, *_ = (int(number) for number in version.split("."))
    return (0, minor) if major == 0 else (major, 0)


@dataclass(frozen=True)
class Comparison:
    """Two documents, and where in both one is."""

    old: Document
    new: Document
    where: str = ""

    def at(self, place: str) -> Comparison:
        return Comparison(self.old, self.new, f"{self.where}{place}")

    def say(self, what: str) -> str:
        return f"{self.where}: {what}"

    def read_old(self, part: Any) -> Any:
        return _follow(self.old, part)

    def read_new(self, part: Any) -> Any:
        return _follow(self.new, part)


def _follow(document: Document, part: Any) -> Any:
    while isinstance(part, dict) and "$ref" in part:
        found: Any = document
        for step in part["$ref"].removeprefix("#/").split("/"):
            found = found[step.replace("~1", "/").replace("~0", "~")]
        part = {**found, **{name: value for name, value in part.items() if name != "$ref"}}
    return part


def _compare_sign_ins(both: Comparison) -> Iterator[str]:
    now = both.new["components"].get("securitySchemes", {})
    for name, scheme in both.old["components"].get("securitySchemes", {}).items():
        if _leave_out_words(scheme) != _leave_out_words(now.get(name, {})):
            yield both.at(name).say("who signs in by it has to do so otherwise")


def _leave_out_words(part: Schema) -> Schema:
    return {key: value for key, value in part.items() if key not in _SAYS_NOTHING}


def _compare_paths(both: Comparison) -> Iterator[str]:
    for path, operations in both.old["paths"].items():
        for method in METHODS:
            if method not in operations:
                continue
            place = both.at(f"{method.upper()} {path}")
            kept = both.new["paths"].get(path, {}).get(method)
            if kept is None:
                yield place.say("it is gone")
            else:
                yield from _compare_operations(place, operations[method], kept)


def _compare_operations(both: Comparison, old: Schema, new: Schema) -> Iterator[str]:
    if old.get("operationId") != new.get("operationId"):
        yield both.say(f"its id was {old.get('operationId')}, now {new.get('operationId')}")
    for alternative in old.get("security", []):
        if alternative not in new.get("security", []):
            yield both.say(f"{' and '.join(alternative)} no longer signs in")
    yield from _compare_parameters(both, old, new)
    yield from _compare_bodies(both, old.get("requestBody"), new.get("requestBody"))
    for status in new["responses"].keys() - old["responses"].keys():
        if status < "400":
            yield both.at(f" {status}").say("is a success that is new")
    for status, answer in old["responses"].items():
        place = both.at(f" {status}")
        if status not in new["responses"]:
            yield place.say("is no longer answered")
        else:
            kept = both.read_new(new["responses"][status])
            yield from _compare_answers(place, both.read_old(answer), kept)


def _compare_parameters(both: Comparison, old: Schema, new: Schema) -> Iterator[str]:
    before = _index(map(both.read_old, old.get("parameters", [])))
    now = _index(map(both.read_new, new.get("parameters", [])))
    for key, parameter in before.items():
        place = both.at(f" parameter {key[1]}")
        if key not in now:
            yield place.say("is gone")
            continue
        if now[key].get("required") and not parameter.get("required"):
            yield place.say("has become required")
        for keyword in ("style", "explode", "allowEmptyValue"):
            if parameter.get(keyword) != now[key].get(keyword):
                yield place.say(f"its {keyword} has changed")
        yield from _compare_sent(place, parameter.get("schema", {}), now[key].get("schema", {}))
    for key in now.keys() - before.keys():
        if now[key].get("required"):
            yield both.at(f" parameter {key[1]}").say("is new and required")


def _index(parameters: Any) -> dict[tuple[str, str], Schema]:
    return {(parameter["in"], parameter["name"]): parameter for parameter in parameters}


def _compare_bodies(both: Comparison, old: Schema | None, new: Schema | None) -> Iterator[str]:
    place = both.at(" body")
    before, now = both.read_old(old or {}), both.read_new(new or {})
    if now.get("required") and not before.get("required"):
        yield place.say("has become required")
    for media_type, content in before.get("content", {}).items():
        if media_type not in now.get("content", {}):
            yield place.say(f"{media_type} is no longer taken")
        else:
            kept = now["content"][media_type]
            yield from _compare_sent(place, content["schema"], kept["schema"])


def _compare_answers(both: Comparison, old: Schema, new: Schema) -> Iterator[str]:
    for name, header in old.get("headers", {}).items():
        place = both.at(f" header {name}")
        if name not in new.get("headers", {}):
            yield place.say("is gone")
            continue
        before, now = both.read_old(header), both.read_new(new["headers"][name])
        yield from _compare_answered(place, before.get("schema", {}), now.get("schema", {}))
    for media_type, content in old.get("content", {}).items():
        if media_type not in new.get("content", {}):
            yield both.say(f"{media_type} is no longer answered")
        else:
            kept = new["content"][media_type]
            yield from _compare_answered(both, content["schema"], kept["schema"])


def _compare_sent(both: Comparison, old: Schema, new: Schema) -> Iterator[str]:
    """Compare what clients send: all of it must still be taken."""
    old, new = both.read_old(old), both.read_new(new)
    yield from _compare_either(both, old, new, is_sent=True)
    if missing := _widen(_list_types(old)) - _widen(_list_types(new)):
        yield both.say(f"{_name(missing)} is no longer taken")
    if "enum" in new and (
        lost := [v for v in old.get("enum", ["anything"]) if v not in new["enum"]]
    ):
        yield both.say(f"{_name(lost)} is no longer taken")
    yield from _compare_bounds(both, old, new)
    for keyword in (*_FORMS, "pattern"):
        if keyword in new and new[keyword] != old.get(keyword):
            yield both.say(f"its {keyword} has become {new[keyword]}")
    for name in set(new.get("required", [])) - set(old.get("required", [])):
        yield both.at(f".{name}").say("has become required")
    for name, part in old.get("properties", {}).items():
        place = both.at(f".{name}")
        if name not in new.get("properties", {}):
            yield place.say("is gone")
        else:
            yield from _compare_sent(place, part, new["properties"][name])
    if new.get("additionalProperties") is False and old.get("additionalProperties") is not False:
        yield both.say("other properties are no longer taken")
    yield from _compare_inner(both, old, new, is_sent=True)


def _compare_answered(both: Comparison, old: Schema, new: Schema) -> Iterator[str]:
    """Compare what clients are answered: nothing may come that they were not told of."""
    old, new = both.read_old(old), both.read_new(new)
    yield from _compare_either(both, old, new, is_sent=False)
    if added := _widen(_list_types(new)) - _widen(_list_types(old)):
        yield both.say(f"it may now be {_name(added)}")
    if "enum" in old and (
        more := [v for v in new.get("enum", ["anything"]) if v not in old["enum"]]
    ):
        yield both.say(f"it may now be {_name(more)}")
    for keyword in _FORMS:
        if keyword in old and new.get(keyword) != old[keyword]:
            yield both.say(f"its {keyword} was {old[keyword]}, now {new.get(keyword)}")
    for name, part in old.get("properties", {}).items():
        place = both.at(f".{name}")
        if name not in new.get("properties", {}):
            yield place.say("is gone")
            continue
        if name in old.get("required", []) and name not in new.get("required", []):
            yield place.say("may now be missing")
        yield from _compare_answered(place, part, new["properties"][name])
    yield from _compare_inner(both, old, new, is_sent=False)


def _compare_inner(both: Comparison, old: Schema, new: Schema, *, is_sent: bool) -> Iterator[str]:
    compare = _compare_sent if is_sent else _compare_answered
    for keyword, place in _INNER.items():
        # True is any value, as {} is.
        before, now = old.get(keyword, True), new.get(keyword, True)
        before, now = ({} if part is True else part for part in (before, now))
        if isinstance(before, dict) and isinstance(now, dict) and (before or now):
            yield from compare(both.at(place), before, now)
    for keyword in sorted(old.keys() | new.keys()):
        is_told = keyword in _COMPARED | _SAYS_NOTHING or keyword.startswith("x-")
        if not is_told and old.get(keyword) != new.get(keyword):
            yield both.say(f"its {keyword} has changed")


def _compare_either(both: Comparison, old: Schema, new: Schema, *, is_sent: bool) -> Iterator[str]:
    """Compare alternatives: of those that one side has, the other must have one that fits."""
    if "anyOf" not in old and "anyOf" not in new:
        return
    before, now = old.get("anyOf", [{}]), new.get("anyOf", [{}])
    if is_sent and not all(any(not [*_compare_sent(both, a, b)] for b in now) for a in before):
        yield both.say("one of its forms is no longer taken")
    if not is_sent and not all(
        any(not [*_compare_answered(both, a, b)] for a in before) for b in now
    ):
        yield both.say("it may now have another form")


def _compare_bounds(both: Comparison, old: Schema, new: Schema) -> Iterator[str]:
    for keyword in _LEAST:
        if keyword in new and not (keyword in old and old[keyword] >= new[keyword]):
            yield both.say(f"its {keyword} has become {new[keyword]}")
    for keyword in _MOST:
        if keyword in new and not (keyword in old and old[keyword] <= new[keyword]):
            yield both.say(f"its {keyword} has become {new[keyword]}")


def _list_types(schema: Schema) -> frozenset[str]:
    told = schema.get("type", _ALL_TYPES)
    return frozenset({told} if isinstance(told, str) else told)


def _widen(types: frozenset[str]) -> frozenset[str]:
    # Whole numbers are numbers.
    return types | {"integer"} if "number" in types else types


def _name(values: Any) -> str:
    return " or ".join(sorted(map(str, values)))
