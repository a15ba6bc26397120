"""Filters of the lists: which query parameters narrow them, and what they may hold."""

from __future__ import annotations

from typing import Any

import django_filters
from django import forms

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
            error_messages={"invalid_choice": f"There are: {', '.join(words)}."},
        )


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


Filters = type[Any]
