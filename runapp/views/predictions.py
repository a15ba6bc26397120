"""Hands out predictions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import parse_etags
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.request import Request

from runapp import npy, streams
from runapp.exceptions import NotFound
from runapp.models import Predictions, SubmissionFold
from runapp.rows import OWNER, PREDICTIONS_ROW_COLUMNS, Row, RowReader, read_in_order
from runapp.selectors import get_fold, get_raw_data
from runapp.serializers import PredictionListInput, PredictionNewInput
from runapp.services import predictions as services
from runapp.services.predictions import HandedOut
from runapp.views.base import DatarunView, read_input
from runapp.views.lists import hold, tell_waited


class PredictionsView(DatarunView):
    """Shows finished folds with their predictions."""

    def answer(self, handed_out: HandedOut) -> HttpResponseBase:
        is_superuser = self.get_account().is_superuser
        columns = (*PREDICTIONS_ROW_COLUMNS, OWNER) if is_superuser else PREDICTIONS_ROW_COLUMNS
        try:
            return streams.answer_array(_read(handed_out, RowReader(columns)))
        except Exception:
            services.take_back(handed_out.were_new)
            raise


class PredictionList(PredictionsView):
    """The predictions of the folds asked for, as far as they are finished."""

    def post(self, request: Request) -> HttpResponseBase:
        ids = read_input(PredictionListInput, request)["list_submission_fold"]
        account = self.get_account()
        owner = self.get_owner() or account
        return self.answer(services.hand_out_listed(account=account, owner=owner, ids=ids))


class PredictionNew(PredictionsView):
    """The predictions that were never handed out, each to one caller."""

    def post(self, request: Request) -> HttpResponseBase:
        posted = read_input(PredictionNewInput, request)
        account, limit = self.get_account(), posted.pop("limit")
        if posted["raw_data_id"] is not None:
            get_raw_data(account=account, pk=posted["raw_data_id"])
        waited = hold(request, services.list_new(owner=account, **posted).exists)
        response = self.answer(services.hand_out_new(owner=account, limit=limit, **posted))
        tell_waited(response, waited)
        return response


class AnyAccept(DefaultContentNegotiation):
    """Errors are JSON and the rest is what it is, whatever a client says it accepts."""

    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


class PredictionsFile(DatarunView):
    """The predictions of one fold on one part, as numpy writes an array."""

    content_negotiation_class = AnyAccept

    def get(self, request: Request, databoard_sf_id: int, part: str) -> HttpResponseBase:
        account: User = self.get_account()
        fold = get_fold(account=account, databoard_sf_id=databoard_sf_id, owner=self.get_owner())
        found = Predictions.objects.filter(fold=fold, part=part).first()
        if found is None:
            raise NotFound("This fold has no predictions of that part.")
        etag = f'"{found.digest}"'
        if etag in parse_etags(request.headers.get("If-None-Match", "")):
            return HttpResponse(status=304, headers={"ETag": etag})
        content = services.read_predictions(found, bin=fold.submission.raw_data.bin)
        return HttpResponse(
            npy.write_array(content, shape=found.shape),
            content_type=npy.MEDIA_TYPE,
            headers={"ETag": etag, "Cache-Control": "private, no-cache"},
        )


def _read(handed_out: HandedOut, reader: RowReader) -> Iterator[list[Row]]:
    """Yield rows piece by piece; what an error leaves unread was not handed out."""
    n_read = 0
    try:
        for piece in read_in_order(reader, SubmissionFold.objects.all(), handed_out.keys):
            yield piece
            n_read += reader.piece_rows
    except Exception:
        services.take_back(handed_out.were_new & set(handed_out.keys[n_read:]))
        raise
