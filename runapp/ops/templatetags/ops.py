"""How the operators' pages write what others have named or printed, numbers and moments.

What is returned is plain text, which templates escape; nothing here is marked as safe.
"""

from __future__ import annotations

import json
from datetime import datetime

from django import template

register = template.Library()

_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))
_DELETE = 0x7F
_PICTURES = 0x2400  # https://www.unicode.org/charts/PDF/U2400.pdf
_PICTURE_OF_DELETE = "\u2421"
_SPACE = 0x20
_LAST_OF_FOUR = 0xFFFF


@register.filter
def visible(text: object) -> str:
    """Return a text of one line in which every character is seen."""
    return "".join(map(_show, "" if text is None else str(text)))


@register.filter
def visible_lines(text: object) -> str:
    """Return a text in which every character is seen, but for the ends of lines and tabs."""
    letters = "" if text is None else str(text)
    return "".join(letter if letter in "\n\t" else _show(letter) for letter in letters)


def _show(letter: str) -> str:
    number = ord(letter)
    if letter.isprintable():
        return letter
    if number < _SPACE:
        return chr(_PICTURES + number)
    if number == _DELETE:
        return _PICTURE_OF_DELETE
    # Among them what turns the direction of the text that follows, and lone surrogates.
    return f"\\u{number:04x}" if number <= _LAST_OF_FOUR else f"\\U{number:08x}"


@register.filter
def age(seconds: float | str | None) -> str:
    """Return a duration in the unit that suits it."""
    if seconds is None or isinstance(seconds, str):  # templates have "" for what is not there
        return "-"
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{max(seconds, 0):.0f} s"


@register.filter
def figure(number: float | str | None) -> str:
    """Return a measured number with three digits that count."""
    if number is None or isinstance(number, str):
        return "-"
    return f"{number:.3g}" if abs(number) < 1000 else f"{number:,.0f}"


@register.filter
def whole(number: int) -> str:
    """Return a count, all of it."""
    return f"{number:,}"


@register.filter
def moment(at: datetime | None) -> str:
    """Return a moment in UTC."""
    return "-" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"


@register.filter
def iso(at: datetime | None) -> str:
    """Return a moment to the last digit, for forms and for machines."""
    return "" if at is None else at.isoformat()


@register.filter
def as_json(value: object) -> str:
    """Return a value as scripts read it; as plain text, which has to be escaped like all others."""
    return json.dumps(value, separators=(",", ":"))


@register.filter
def get(mapping: dict[str, object], key: str) -> object:
    """Return what a mapping has under a key."""
    return mapping.get(key, "")
