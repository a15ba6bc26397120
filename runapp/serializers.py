"""Shapes of what comes in and what goes out; nothing here saves anything."""

from __future__ import annotations

import base64
from typing import Any

from rest_framework import serializers

from runapp import wire
from runapp.fields import (
    FilesField,
    IdsField,
    IndicesField,
    LimitsField,
    make_id_field,
    make_priority_field,
)
from runapp.models import Predictions, RawData, Submission, SubmissionFold
from runapp.position import find_position
from runapp.runner.workflow import CLASS_NAMES, PREDICTORS
from runapp.selectors import Circumstances
from runapp.services.predictions import read_predictions
from runapp.services.submissions import Force

MAX_RANDOM_STATE = 2**32 - 1
MOMENTS = ("queued_at", "started_at", "finished_at")


class RawDataInput(serializers.Serializer[Any]):
    """A new dataset."""

    name = serializers.CharField(max_length=40)
    # A header's name counts as it stands, blanks included.
    target_column = serializers.CharField(max_length=255, trim_whitespace=False, allow_blank=True)
    workflow_elements = serializers.CharField(max_length=200)
    files = FilesField(max_bytes="MAX_INFLATED_BYTES")
    limits = LimitsField(required=False)
    fail_fast = serializers.BooleanField(default=False)

    def validate_workflow_elements(self, text: str) -> str:
        elements = [element.strip() for element in text.split(",")]
        unknown = [element for element in elements if element not in CLASS_NAMES]
        if unknown:
            raise serializers.ValidationError(
                f"Unknown element {unknown[0]!r}; there are: {', '.join(CLASS_NAMES)}."
            )
        if len(set(elements)) != len(elements):
            raise serializers.ValidationError("An element is named twice.")
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
        problem = "Exactly one of classifier and regressor is needed."
    elif "calibrator" in elements and "classifier" not in elements:
        problem = "A calibrator needs a classifier."
    if problem:
        raise serializers.ValidationError({"workflow_elements": problem}, code="contradictory")


class RawDataChanges(serializers.Serializer[Any]):
    """What may change of a dataset, any of it."""

    limits = LimitsField(required=False)
    paused = serializers.BooleanField(required=False)
    fail_fast = serializers.BooleanField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs:
            raise serializers.ValidationError(
                {"limits": "Name at least one of limits, paused and fail_fast."}, code="required"
            )
        return attrs


class SplitInput(serializers.Serializer[Any]):
    """A split by a held-out fraction."""

    raw_data_id = make_id_field()
    held_out_test = serializers.FloatField()
    random_state = serializers.IntegerField(min_value=0, max_value=MAX_RANDOM_STATE, default=42)
    force = serializers.BooleanField(default=False)

    def validate_held_out_test(self, value: float) -> float:
        if not 0 < value < 1:  # NaN fails too
            raise serializers.ValidationError("Must lie strictly between 0 and 1.")
        return value


class CustomSplitInput(serializers.Serializer[Any]):
    """A split by the dataset's own module."""

    raw_data_id = make_id_field()
    force = serializers.BooleanField(default=False)


class FoldsInput(serializers.Serializer[Any]):
    """Cross-validation folds of the train part."""

    n_splits = serializers.IntegerField(min_value=2, max_value=100)
    random_state = serializers.IntegerField(min_value=0, max_value=MAX_RANDOM_STATE, default=42)
    stratify = serializers.BooleanField(required=False, allow_null=True, default=None)
    shuffle = serializers.BooleanField(default=True)


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
    force = serializers.CharField(required=False, allow_null=True, default=None)

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
    """The dataset that new predictions are asked for."""

    raw_data_id = make_id_field(required=False, allow_null=True)


class OwnedSerializer(serializers.ModelSerializer[Any]):
    """Adds the owner's name where the caller sees several accounts' rows (`show_owner`)."""

    def to_representation(self, instance: Any) -> dict[str, Any]:
        row = super().to_representation(instance)
        if self.context.get("show_owner"):
            row["owner"] = instance.owner.username
        return row


class RawDataSerializer(OwnedSerializer):
    """A dataset as clients see it."""

    limits = serializers.DictField(source="limits_in_force")

    class Meta:
        model = RawData
        fields = (
            "id",
            "name",
            "files_path",
            "workflow_elements",
            "target_column",
            "state",
            "error_code",
            "log_messages",
            "classes",
            "n_train",
            "n_test",
            "limits",
            "paused",
            "fail_fast",
            "created_at",
        )


class SubmissionSerializer(OwnedSerializer):
    """A submission as clients see it."""

    raw_data = serializers.IntegerField(source="raw_data_id")
    files = serializers.SerializerMethodField()

    class Meta:
        model = Submission
        fields = ("databoard_s_id", "raw_data", "files_path", "hash_files", "files")

    def get_files(self, submission: Submission) -> list[str]:
        return sorted(submission.files)


class PredictionsMixin(serializers.Serializer[Any]):
    """Puts the predictions of both parts, in wire form, into a row."""

    def to_representation(self, instance: SubmissionFold) -> dict[str, Any]:
        row: dict[str, Any] = super().to_representation(instance)
        made = {predictions.part: predictions for predictions in instance.predictions.all()}
        for part in Predictions.Part.values:
            row.update(show_predictions(part, made.get(part), fold=instance))
        return row


def show_predictions(
    part: str, predictions: Predictions | None, *, fold: SubmissionFold
) -> dict[str, Any]:
    """Return a part's predictions with their shape and type; all null when there are none."""
    name = f"{part}_predictions"
    if predictions is None:
        return {name: None, f"{name}_shape": None, f"{name}_dtype": None}
    content = read_predictions(predictions, bin=fold.submission.raw_data.bin)
    return {
        name: wire.encode_bytes(content),
        f"{name}_shape": predictions.shape,
        f"{name}_dtype": "float64",
    }


class SubmissionFoldSerializer(PredictionsMixin, OwnedSerializer):
    """A fold with all its attributes."""

    databoard_s = serializers.IntegerField(source="submission.databoard_s_id")
    train_is = serializers.SerializerMethodField()
    test_is = serializers.SerializerMethodField()
    waiting_because = serializers.SerializerMethodField()

    class Meta:
        model = SubmissionFold
        fields = (
            "databoard_sf_id",
            "databoard_s",
            "train_is",
            "test_is",
            "priority",
            "state",
            "error_code",
            "log_messages",
            "train_time",
            "validation_time",
            "test_time",
            "train_cpu_time",
            "train_memory",
            "test_cpu_time",
            "test_memory",
            "new",
            "attempt",
            "measured_by",
            *MOMENTS,
            "waiting_because",
        )

    def get_train_is(self, fold: SubmissionFold) -> str:
        return _show_packed(fold.train_is)

    def get_test_is(self, fold: SubmissionFold) -> str:
        return _show_packed(fold.test_is)

    def get_waiting_because(self, fold: SubmissionFold) -> str | None:
        circumstances: Circumstances = self.context["circumstances"]
        raw_data = fold.submission.raw_data
        return circumstances.explain_waiting(
            phase=fold.phase,
            raw_data_state=raw_data.state,
            is_paused=raw_data.paused,
            owner_id=fold.owner_id,
        )


class SubmissionFoldDetailSerializer(SubmissionFoldSerializer):
    """A fold with all its attributes and its place in the queue."""

    def to_representation(self, instance: SubmissionFold) -> dict[str, Any]:
        row = super().to_representation(instance)
        position = find_position(instance)
        starts_at = position.starts_at if position else None
        row["queue_position"] = position.number if position else None
        row["estimated_start"] = (
            None if starts_at is None else serializers.DateTimeField().to_representation(starts_at)
        )
        return row


def _show_packed(packed: bytes | memoryview) -> str:
    # A row keeps indices in the wire form less its base64.
    return base64.b64encode(packed).decode()


class SubmissionFoldLightSerializer(OwnedSerializer):
    """What a poller needs of a fold."""

    databoard_s = serializers.IntegerField(source="submission.databoard_s_id")

    class Meta:
        model = SubmissionFold
        fields = ("databoard_sf_id", "databoard_s", "state", "new")


class PredictionsRowSerializer(PredictionsMixin, OwnedSerializer):
    """A finished fold's predictions and figures."""

    databoard_s = serializers.IntegerField(source="submission.databoard_s_id")

    class Meta:
        model = SubmissionFold
        fields = (
            "databoard_sf_id",
            "databoard_s",
            "state",
            "error_code",
            "log_messages",
            "train_time",
            "validation_time",
            "test_time",
            "train_cpu_time",
            "test_cpu_time",
            "train_memory",
            "test_memory",
        )
