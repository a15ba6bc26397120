"""Fields of the API's bodies: decoded and checked within bounds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from django.conf import settings
from numpy.typing import NDArray
from rest_framework import serializers

from runapp import wire
from runapp.exceptions import TooLarge
from runapp.models import MAX_CLIENT_ID, SubmissionFold
from runapp.names import check_name


def make_priority_field(**options: Any) -> serializers.ChoiceField:
    # DRF's own message repeats what was sent, however long.
    return serializers.ChoiceField(
        choices=SubmissionFold.Priority.choices,
        error_messages={"invalid_choice": "Must be 'L' or 'H'."},
        **options,
    )


class TextField(serializers.CharField):
    """JSON's text and nothing else: DRF would take a number for one."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        text: str = super().to_internal_value(data)
        return text


class NumberField(serializers.FloatField):
    """A number, or the text of one; DRF would take true for 1."""

    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool):
            self.fail("invalid")
        number: float = super().to_internal_value(data)
        return number


class FlagField(serializers.BooleanField):
    """True and false, or the text of one; DRF would take `"off"`, 1 and more."""

    def to_internal_value(self, data: Any) -> bool:
        flag = {"true": True, "false": False}.get(data.lower()) if isinstance(data, str) else data
        if not isinstance(flag, bool):
            self.fail("invalid")
        return flag


def make_id_field(**options: Any) -> serializers.IntegerField:
    return serializers.IntegerField(min_value=0, max_value=MAX_CLIENT_ID, **options)


def make_name_field(**options: Any) -> TextField:
    return TextField(validators=[check_name], **options)


class IdsField(serializers.Field[list[int], Any, list[int], Any]):
    """A list of ids; one error for the whole, however long it is."""

    default_error_messages = {
        "not_a_list": "Expected a list of whole numbers.",
        "too_many": "At most {most} ids are allowed at a time.",
        "invalid": "Every id must be a whole number from 0 to {most}.",
    }

    def to_internal_value(self, data: Any) -> list[int]:
        if not isinstance(data, list):
            self.fail("not_a_list")
        if len(data) > settings.MAX_LISTED_IDS:
            self.fail("too_many", most=settings.MAX_LISTED_IDS)
        # type(), as isinstance() would take JSON's true for 1.
        if any(type(value) is not int or not 0 <= value <= MAX_CLIENT_ID for value in data):
            self.fail("invalid", most=MAX_CLIENT_ID)
        return data

    def to_representation(self, value: Any) -> Any:
        return value


class FilesField(serializers.Field[dict[str, bytes], Any, dict[str, bytes], Any]):
    """File name -> base64(zlib(content)), decoded within bounds.

    Parameters
    ----------
    max_bytes : str
        The name of the setting that bounds the contents together.
    """

    default_error_messages = {
        "not_a_dict": "Expected an object that maps file names to contents.",
        "empty": "At least one file is required.",
        "too_many": "At most {most} files are allowed.",
        "not_text": "{name}: the content must be text, base64 of zlib.",
        "undecodable": "{name}: {why}",
        "bad_name": "{why}",
    }

    def __init__(self, *, max_bytes: str, **options: Any) -> None:
        super().__init__(**options)
        self._max_bytes = max_bytes

    def to_internal_value(self, data: Any) -> dict[str, bytes]:
        if not isinstance(data, dict):
            self.fail("not_a_dict")
        if not data:
            self.fail("empty")
        if len(data) > settings.MAX_FILES:
            self.fail("too_many", most=settings.MAX_FILES)
        try:
            wire.check_file_names(data)
        except wire.WireError as error:
            self.fail("bad_name", why=str(error))
        room = getattr(settings, self._max_bytes)
        files = {}
        for name, text in data.items():
            files[name] = self._decode(name, text, max_bytes=room)
            room -= len(files[name])
        return files

    def _decode(self, name: str, text: Any, *, max_bytes: int) -> bytes:
        if not isinstance(text, str):
            self.fail("not_text", name=name)
        try:
            return wire.decode_bytes(text, max_bytes=max_bytes)
        except wire.WireTooLarge as error:
            most = getattr(settings, self._max_bytes) // 2**20
            raise TooLarge(f"The files unpack to more than the maximum of {most} MB.") from error
        except wire.WireError as error:
            self.fail("undecodable", name=name, why=str(error))

    def to_representation(self, value: Any) -> Any:
        return value


class IndicesField(serializers.Field[NDArray[np.int64], Any, NDArray[np.int64], Any]):
    """base64(zlib(int64 bytes)): distinct row positions from 0."""

    default_error_messages = {"not_text": "Expected text.", "invalid": "{why}"}

    def to_internal_value(self, data: Any) -> NDArray[np.int64]:
        if not isinstance(data, str):
            self.fail("not_text")
        try:
            indices = wire.decode_indices(data, max_count=settings.MAX_INDICES)
            wire.check_indices(indices, n_rows=None)
        except wire.WireTooLarge as error:
            raise TooLarge(f"At most {settings.MAX_INDICES} indices are allowed.") from error
        except wire.WireError as error:
            self.fail("invalid", why=str(error))
        return indices

    def to_representation(self, value: Any) -> Any:
        return value


class LimitsField(serializers.Field[dict[str, float | None], Any, dict[str, float | None], Any]):
    """Limit name -> positive number up to the server's maximum; null goes back to the default."""

    default_error_messages = {
        "not_a_dict": "Expected an object that maps limits to values.",
        "unknown": "Unknown limit {name} (use any of: {known}).",
        "not_positive": "{name} must be a number above 0.",
        "not_whole": "{name} must be a whole number.",
        "over_maximum": "{name} is {value}; the maximum is {most}.",
    }

    def to_internal_value(self, data: Any) -> dict[str, float | None]:
        if not isinstance(data, dict):
            self.fail("not_a_dict")
        return {str(name): self._check(str(name), value) for name, value in data.items()}

    def _check(self, name: str, value: Any) -> float | None:
        most = settings.MAX_LIMITS.get(name)
        if most is None:
            self.fail("unknown", name=name[:40], known=", ".join(settings.MAX_LIMITS))
        if value is None:
            return None
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or value <= 0:
            self.fail("not_positive", name=name)
        if value > most:
            self.fail("over_maximum", name=name, value=value, most=most)
        if not name.endswith("_seconds") and value != int(value):
            self.fail("not_whole", name=name)
        return value if name.endswith("_seconds") else int(value)

    def to_representation(self, value: Any) -> Any:
        return value
