"""The reference: the same rows and columns by Django REST framework as its guide shows it.

A `ModelSerializer` on a queryset, DRF's pagination, Django's own conditional GET. Served by the
same server with the same authentication.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.urls import path
from django.utils.decorators import method_decorator
from django.views.decorators.http import conditional_page
from rest_framework import generics, serializers
from rest_framework.pagination import LimitOffsetPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from runapp.common import wire
from runapp.models import Predictions, SubmissionFold
from runapp.scheduling.results import read_predictions

PARTS = ("full_train", "test")
_FIGURES = (
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


class LightSerializer(serializers.ModelSerializer[SubmissionFold]):
    """What a poller needs of a fold."""

    databoard_s = serializers.IntegerField(source="submission.databoard_s_id")

    class Meta:
        model = SubmissionFold
        fields = ("databoard_sf_id", "databoard_s", "state", "new")


class PredictionsSerializer(LightSerializer):
    """A finished fold with its predictions."""

    class Meta(LightSerializer.Meta):
        fields = ("databoard_sf_id", "databoard_s", "state", *_FIGURES)  # type: ignore[assignment]

    def to_representation(self, instance: SubmissionFold) -> dict[str, Any]:
        row = super().to_representation(instance)
        found = {one.part: one for one in instance.predictions.all()}
        for part in PARTS:
            row |= _show(found[part], f"{part}_predictions", instance)
        return row


def _show(predictions: Predictions, name: str, fold: SubmissionFold) -> dict[str, Any]:
    content = read_predictions(predictions, bin=fold.raw_data.bin)
    return {
        name: wire.encode_bytes(content, level=wire.FAST_LEVEL),
        f"{name}_shape": predictions.shape,
        f"{name}_dtype": "float64",
    }


class LightList(generics.ListAPIView[SubmissionFold]):
    """All folds of an account, or those that have changed after a number."""

    serializer_class = LightSerializer

    def get_queryset(self) -> Any:
        # Without the wide columns, which a careful author leaves out.
        rows = SubmissionFold.objects.filter(owner=self.request.user.pk).order_by("pk")
        rows = rows.select_related("submission").defer("train_is", "test_is", "log_messages")
        after = self.request.query_params.get("changed_after")
        return rows if after is None else rows.filter(change_seq__gt=int(after))


class LightPage(LightList):
    """The same in pages."""

    pagination_class = LimitOffsetPagination


@method_decorator(conditional_page, name="dispatch")
class LightConditional(LightList):
    """The same, answered with 304 to who has it already."""


class NewPredictions(APIView):
    """The predictions that were never handed out."""

    def post(self, request: Request) -> Response:
        rows = SubmissionFold.objects.select_related("submission", "raw_data")
        rows = rows.prefetch_related("predictions").defer("train_is", "test_is")
        new = rows.filter(owner=request.user.pk, new=True, phase="done", state="TESTED")
        with transaction.atomic():
            folds = list(new.order_by("finished_at", "pk"))
            SubmissionFold.objects.filter(pk__in=[fold.pk for fold in folds]).update(new=False)
        return Response(PredictionsSerializer(folds, many=True).data)


urlpatterns = [
    path("light/", LightList.as_view()),
    path("page/", LightPage.as_view()),
    path("conditional/", LightConditional.as_view()),
    path("new/", NewPredictions.as_view()),
]
