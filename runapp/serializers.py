"""Shapes of what comes in and what goes out; nothing here saves anything."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
from django.conf import settings
from numpy.typing import NDArray
from rest_framework import serializers

from runapp import wire
from runapp.exceptions import TooLarge
from runapp.models import MAX_CLIENT_ID, Predictions, RawData, Submission, SubmissionFold
from runapp.runner.workflow import CLASS_NAMES, PREDICTORS
from runapp.services.predictions import read_predictions
from runapp.services.submissions import Force

MAX_RANDOM_STATE = 2**32 - 1
WAITING_TIMES = ("queued_at", "started_at", "finished_at")


def make_id_field(**options: Any) -> serializers.IntegerField:
    return serializers.IntegerField(min_value=0, max_value=MAX_CLIENT_ID, **options)


class FilesField(serializers.Field[dict[str, bytes], Any, dict[str, bytes], Any]):
    """File name -> base64(zlib(content)), decoded within bounds.

    Parameters
    ----------
    max_bytes : str
        The name of the setting that bounds the contents together.
    """

    default_error_messages = {
        "not_a_dict": "Expected an object of file name and content.",
        "empty": "At least one file is needed.",
        "too_many": "At most {most} files are taken.",
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
            raise TooLarge(
                f"The files inflate to more than the {most} MB that are taken."
            ) from error
        except wire.WireError as error:
            self.fail("undecodable", name=name, why=str(error))

    def to_representation(self, value: Any) -> Any:
        return value


class IndicesField(serializers.Field[NDArray[np.int64], Any, NDArray[np.int64], Any]):
    """base64(zlib(int64 bytes)): distinct row positions from 0."""

    default_error_messages = {"not_text": "Expected text.", "bad": "{why}"}

    def to_internal_value(self, data: Any) -> NDArray[np.int64]:
        if not isinstance(data, str):
            self.fail("not_text")
        try:
            indices = wire.decode_indices(data, max_count=settings.MAX_INDICES)
            wire.check_indices(indices, n_rows=None)
        except wire.WireTooLarge as error:
            raise TooLarge(f"At most {settings.MAX_INDICES} indices are taken.") from error
        except wire.WireError as error:
            self.fail("bad", why=str(error))
        return indices

    def to_representation(self, value: Any) -> Any:
        return value


class LimitsField(serializers.Field[dict[str, float | None], Any, dict[str, float | None], Any]):
    """Limit name -> positive number up to the server's maximum; null goes back to the default."""

    default_error_messages = {
        "not_a_dict": "Expected an object of limit and value.",
        "unknown": "Unknown limit {name}; there are: {known}.",
        "not_positive": "{name} must be a number above 0.",
        "not_whole": "{name} must be a whole number.",
        "over_maximum": "{name} is {value:g}; the maximum is {most:g}.",
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


class RawDataInput(serializers.Serializer[Any]):
    """A new dataset."""

    name = serializers.CharField(max_length=40)
    # A header's name counts as it stands, blanks included.
    target_column = serializers.CharField(max_length=255, trim_whitespace=False, allow_blank=True)
    workflow_elements = serializers.CharField(max_length=200)
    files = FilesField(max_bytes="MAX_INFLATED_BYTES")
    limits = LimitsField(required=False)

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


class LimitsInput(serializers.Serializer[Any]):
    """New limits of a dataset."""

    limits = LimitsField()


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
    priority = serializers.ChoiceField(
        choices=SubmissionFold.Priority.choices, default=SubmissionFold.Priority.LOW
    )
    raw_data = make_id_field(required=False)
    files = FilesField(max_bytes="MAX_SUBMISSION_BYTES", required=False)
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

    priority = serializers.ChoiceField(choices=SubmissionFold.Priority.choices)


class PredictionListInput(serializers.Serializer[Any]):
    """Which folds' predictions are asked for."""

    list_submission_fold = serializers.ListField(child=make_id_field())

    def validate_list_submission_fold(self, ids: list[int]) -> list[int]:
        if len(ids) > settings.MAX_LISTED_IDS:
            raise serializers.ValidationError(f"At most {settings.MAX_LISTED_IDS} ids at a time.")
        return ids


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
            *WAITING_TIMES,
            "waiting_because",
        )

    def get_train_is(self, fold: SubmissionFold) -> str:
        return _show_packed(fold.train_is)

    def get_test_is(self, fold: SubmissionFold) -> str:
        return _show_packed(fold.test_is)

    def get_waiting_because(self, fold: SubmissionFold) -> str | None:
        explain = self.context["explain_waiting"]
        reason: str | None = explain(fold)
        return reason


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
