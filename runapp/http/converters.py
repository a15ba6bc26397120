"""What stands in the paths of routes."""

from __future__ import annotations

from django.urls import register_converter

from runapp.models import MAX_CLIENT_ID, Predictions


class IdConverter:
    """An id that the database can hold; anything else is a path that does not exist."""

    regex = "[0-9]{1,19}"

    def to_python(self, value: str) -> int:
        number = int(value)
        if number > MAX_CLIENT_ID:
            raise ValueError
        return number

    def to_url(self, value: int) -> str:
        return str(value)


class PartConverter:
    """A part of a dataset that folds make predictions of."""

    regex = "|".join(Predictions.Part.values)

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(IdConverter, "id")
register_converter(PartConverter, "part")
