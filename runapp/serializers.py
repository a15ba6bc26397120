"""Shapes of what comes in; nothing here saves anything. What goes out is in rows.py."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from runapp.account_models import MOST_TOKEN_DAYS
from runapp.fields import (
    FilesField,
    FlagField,
    IdsField,
    IndicesField,
    LimitsField,
    NumberField,
    TextField,
    make_id_field,
    make_name_field,
    make_priority_field,
)
from runapp.models import Share, SubmissionFold
from runapp.queries import MOST_ROWS
from runapp.runner.workflow import CLASS_NAMES, PREDICTORS
from runapp.services.submissions import Force

MOST_PASSWORD = 4096
MAX_RANDOM_STATE = 2**32 - 1
# Of a name that is refused, so much is repeated.
_SHOWN_CHARACTERS = 40


class RawDataInput(serializers.Serializer[Any]):
    """A new dataset."""

    name = make_name_field(max_length=40)
    # A header's name counts as it stands, blanks included.
    target_column = TextField(max_length=255, trim_whitespace=False, allow_blank=True)
    workflow_elements = TextField(max_length=200)
    files = FilesField(max_bytes="MAX_INFLATED_BYTES")
    limits = LimitsField(required=False)
    fail_fast = FlagField(default=False)

    def validate_workflow_elements(self, text: str) -> str:
        elements = [element.strip() for element in text.split(",")]
        unknown = [element for element in elements if element not in CLASS_NAMES]
        if unknown:
            raise serializers.ValidationError(
                f"Unknown element {unknown[0]!r} (use any of: {', '.join(CLASS_NAMES)})."
            )
        if len(set(elements)) != len(elements):
            raise serializers.ValidationError("An element is listed twice.")
        return ",".join(elements)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        has_own_module = any(name.endswith(".py") for name in attrs["files"])
        if not has_own_module:
            check_elements(attrs["workflow_elements"].split(","))
            if not attrs["target_column"]:
                raise serializers.ValidationError(
                    {"target_column": "This field may not be blank."}, code="blank"
                )
        return attrs


def check_elements(elements: list[str]) -> None:
    """Refuse elements that make no workflow for a standard dataset."""
    predictors = [element for element in PREDICTORS if element in elements]
    problem = None
    if len(predictors) != 1:
        problem = "Exactly one of classifier and regressor is required."
    elif "calibrator" in elements and "classifier" not in elements:
        problem = "A calibrator needs a classifier."
    if problem:
        raise serializers.ValidationError({"workflow_elements": problem}, code="contradictory")


class RawDataChanges(serializers.Serializer[Any]):
    """What may change of a dataset, any of it."""

    limits = LimitsField(required=False)
    paused = FlagField(required=False)
    fail_fast = FlagField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs:
            raise serializers.ValidationError(
                {"limits": "Send at least one of limits, paused and fail_fast."}, code="required"
            )
        return attrs


class ShareInput(serializers.Serializer[Any]):
    """A share of a dataset with one account or one group."""

    account = TextField(max_length=150, required=False, allow_null=True)
    group = TextField(max_length=150, required=False, allow_null=True)
    role = serializers.ChoiceField(
        choices=Share.Role.choices,
        error_messages={"invalid_choice": f"Must be one of: {', '.join(Share.Role.values)}."},
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        given = [name for name in ("account", "group") if attrs.get(name) is not None]
        if len(given) != 1:
            raise serializers.ValidationError(
                {"account": "Give either an account or a group."}, code="contradictory"
            )
        return attrs


class SplitInput(serializers.Serializer[Any]):
    """A split by a held-out fraction."""

    raw_data_id = make_id_field()
    held_out_test = NumberField()
    random_state = serializers.IntegerField(min_value=0, max_value=MAX_RANDOM_STATE, default=42)
    force = FlagField(default=False)

    def validate_held_out_test(self, value: float) -> float:
        if not 0 < value < 1:  # NaN fails too
            raise serializers.ValidationError("Must lie strictly between 0 and 1.")
        return value


class CustomSplitInput(serializers.Serializer[Any]):
    """A split by the dataset's own module."""

    raw_data_id = make_id_field()
    force = FlagField(default=False)


class PasswordInput(serializers.Serializer[Any]):
    """The password that an account has, and the one that it shall have."""

    old_password = serializers.CharField(max_length=MOST_PASSWORD, trim_whitespace=False)
    new_password = serializers.CharField(max_length=MOST_PASSWORD, trim_whitespace=False)


class TokenInput(serializers.Serializer[Any]):
    """A new token; a field that it does not have may be an expiry that was misspelt."""

    name = make_name_field(max_length=100)
    expires_in_days = serializers.IntegerField(
        min_value=1, max_value=MOST_TOKEN_DAYS, required=False, allow_null=True, default=None
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        unknown = sorted(set(self.initial_data) - set(self.fields))
        if unknown:
            raise serializers.ValidationError(
                {unknown[0][:_SHOWN_CHARACTERS]: "Unknown field."}, code="unknown"
            )
        return attrs


class FoldsInput(serializers.Serializer[Any]):
    """Cross-validation folds of the train part."""

    n_splits = serializers.IntegerField(min_value=2, max_value=100)
    random_state = serializers.IntegerField(min_value=0, max_value=MAX_RANDOM_STATE, default=42)
    stratify = FlagField(required=False, allow_null=True, default=None)
    shuffle = FlagField(default=True)


class SubmissionFoldInput(serializers.Serializer[Any]):
    """A fold to train and test, with its submission's files the first time."""

    databoard_sf_id = make_id_field()
    databoard_s_id = make_id_field()
    train_is = IndicesField()
    test_is = IndicesField()
    priority = make_priority_field(default=SubmissionFold.Priority.LOW)
    raw_data = make_id_field(required=False, allow_null=True, default=None)
    files = FilesField(
        max_bytes="MAX_SUBMISSION_BYTES", required=False, allow_null=True, default=None
    )
    force = TextField(required=False, allow_null=True, default=None)

    def validate_force(self, text: str | None) -> Force:
        words = None if text is None else ", ".join(word.strip() for word in text.split(","))
        try:
            return Force(words or "")
        except ValueError:
            raise serializers.ValidationError(
                "Must be 'submission_fold' or 'submission, submission_fold'."
            ) from None


class PriorityInput(serializers.Serializer[Any]):
    """A waiting fold's new priority."""

    priority = make_priority_field()


class PredictionListInput(serializers.Serializer[Any]):
    """Which folds' predictions are asked for."""

    list_submission_fold = IdsField()


class PredictionNewInput(serializers.Serializer[Any]):
    """Which new predictions are asked for."""

    raw_data_id = make_id_field(required=False, allow_null=True, default=None)
    limit = serializers.IntegerField(
        required=False, allow_null=True, default=None, min_value=1, max_value=MOST_ROWS
    )
    include_errors = FlagField(default=False)
