"""Filters of the lists: which query parameters narrow them, and what they may hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import django_filters
from django import forms
from django.db.models import QuerySet
from django.utils.dateparse import parse_datetime

from runapp.events import Action, Kind
from runapp.models import MAX_CLIENT_ID, RawData, SubmissionFold
from runapp.transitions import State


class IdFilter(django_filters.NumberFilter):  # type: ignore[misc]  # django-filter has no types
    """One id, in the range of ids."""

    field_class = forms.IntegerField

    def __init__(self, field_name: str) -> None:
        super().__init__(field_name, min_value=0, max_value=MAX_CLIENT_ID)

    def get_max_validator(self) -> None:
        """Leave the bounds to the field."""


class WordsFilter(django_filters.BaseInFilter, django_filters.ChoiceFilter):  # type: ignore[misc]
    """One of some words, or several with commas between them."""

    def __init__(self, words: list[str]) -> None:
        super().__init__(
            choices=[(word, word) for word in words],
            error_messages={"invalid_choice": f"Must be one of: {', '.join(words)}."},
        )


class MomentField(forms.Field):
    """A moment in ISO 8601; in UTC if it does not say where."""

    def to_python(self, value: Any) -> datetime | None:
        if value in self.empty_values:
            return None
        try:
            moment = parse_datetime(value)
            if moment is None:
                raise ValueError
            # Close to the first and the last year there are moments that UTC has no name for.
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise forms.ValidationError(
                "Must be a time such as 2026-01-31T12:00:00Z.", code="invalid"
            ) from error


class SinceFilter(django_filters.Filter):  # type: ignore[misc]
    """What was at a moment or after it."""

    field_class = MomentField

    def filter(self, rows: QuerySet[Any], moment: datetime | None) -> QuerySet[Any]:
        # SQLite compares texts, in which .5 comes before .500000: so none may be equal.
        return rows if moment is None else rows.filter(at__gt=_just_before(moment))


class UntilFilter(SinceFilter):
    """What was before a moment."""

    def filter(self, rows: QuerySet[Any], moment: datetime | None) -> QuerySet[Any]:
        return rows if moment is None else rows.filter(at__lte=_just_before(moment))


def _just_before(moment: datetime) -> datetime:
    first = datetime.min.replace(tzinfo=UTC)
    return max(moment, first + timedelta(days=1)) - timedelta(microseconds=1)


class AddressFilter(django_filters.CharFilter):  # type: ignore[misc]
    """An address, however it is spelt."""

    field_class = forms.GenericIPAddressField


class FoldFilter(django_filters.FilterSet):  # type: ignore[misc]
    """Narrows a list of folds."""

    state = WordsFilter([str(state) for state in State])
    raw_data = IdFilter("raw_data_id")
    databoard_s = IdFilter("submission__databoard_s_id")
    priority = WordsFilter(list(SubmissionFold.Priority.values))


class RawDataFilter(django_filters.FilterSet):  # type: ignore[misc]
    """Narrows the list of datasets."""

    state = WordsFilter(list(RawData.State.values))
    raw_data = IdFilter("id")


class SubmissionFilter(django_filters.FilterSet):  # type: ignore[misc]
    """Narrows the list of submissions."""

    raw_data = IdFilter("raw_data_id")
    databoard_s = IdFilter("databoard_s_id")


class AuditFilter(django_filters.FilterSet):  # type: ignore[misc]
    """Narrows the list of the audit's events."""

    actor = django_filters.CharFilter("actor", strip=False)
    owner = django_filters.CharFilter("owner", strip=False)
    action = WordsFilter(list(Action.values))
    kind = WordsFilter(list(Kind.values))
    target = django_filters.CharFilter("target")
    raw_data = IdFilter("raw_data_id")
    address = AddressFilter("address")
    since = SinceFilter()
    until = UntilFilter()


Filters = type[Any]
