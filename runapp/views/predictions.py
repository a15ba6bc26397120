"""Hands out predictions."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response

from runapp.exceptions import StorageAway
from runapp.models import SubmissionFold
from runapp.selectors import get_raw_data
from runapp.serializers import (
    PredictionListInput,
    PredictionNewInput,
    PredictionsRowSerializer,
)
from runapp.services import predictions as services
from runapp.views.base import DatarunView, read_input


class PredictionsView(DatarunView):
    """Shows finished folds with their predictions."""

    def answer(self, folds: list[SubmissionFold]) -> Response:
        serializer = PredictionsRowSerializer(folds, many=True, context=self.get_context())
        try:
            return Response(serializer.data)
        except StorageAway:
            services.take_back(folds)
            raise


class PredictionList(PredictionsView):
    """The predictions of the folds asked for, as far as they are finished."""

    def post(self, request: Request) -> Response:
        ids = read_input(PredictionListInput, request)["list_submission_fold"]
        account = self.get_account()
        owner = self.get_owner() or account
        return self.answer(services.hand_out_listed(account=account, owner=owner, ids=ids))


class PredictionNew(PredictionsView):
    """The predictions that were never handed out, each to one caller."""

    def post(self, request: Request) -> Response:
        raw_data_id = read_input(PredictionNewInput, request).get("raw_data_id")
        account = self.get_account()
        if raw_data_id is not None:
            get_raw_data(account=account, pk=raw_data_id)
        return self.answer(services.hand_out_new(owner=account, raw_data_id=raw_data_id))
