"""Hands out predictions."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.request import Request

from runapp import npy, streams
from runapp.access import READERS
from runapp.exceptions import Forbidden, NotFound, StorageAway, StorageError
from runapp.models import Predictions, SubmissionFold
from runapp.rows import OWNER, PREDICTIONS_ROW_COLUMNS, AnyColumn, Row, RowReader, read_in_order
from runapp.selectors import get_fold, get_raw_data
from runapp.serializers import PredictionListInput, PredictionNewInput
from runapp.services import predictions as services
from runapp.services.predictions import HandedOut
from runapp.transitions import Phase
from runapp.views.base import DatarunView, read_input
from runapp.views.lists import answer_not_modified, find_known, hold, tell_waited

logger = logging.getLogger(__name__)


class PredictionsView(DatarunView):
    """Shows finished folds with their predictions."""

    is_sending = False

    def answer(self, handed_out: HandedOut) -> HttpResponseBase:
        columns: tuple[AnyColumn, ...] = PREDICTIONS_ROW_COLUMNS
        if not self.scope.is_alone:
            columns = (*columns, OWNER)
        try:
            response = streams.answer_array(self._read(handed_out, RowReader(columns)))
        except Exception:
            services.take_back(handed_out.were_new)
            raise
        self.is_sending = True
        return response

    def _read(self, handed_out: HandedOut, reader: RowReader) -> Iterator[list[Row]]:
        """Yield rows piece by piece; what an error leaves unsent was not handed out."""
        keys = handed_out.keys
        for start in range(0, len(keys), reader.piece_rows):
            try:
                piece = _read_readable(reader, keys[start : start + reader.piece_rows])
            except Exception:
                if self.is_sending:
                    services.take_back(handed_out.were_new & set(keys[start:]))
                raise
            yield piece


def _read_readable(reader: RowReader, keys: list[int]) -> list[Row]:
    """Return the rows of folds, without those whose predictions are damaged."""
    # One that was posted again since is not finished any more.
    rows = SubmissionFold.objects.filter(phase=Phase.DONE)
    try:
        return [row for piece in read_in_order(reader, rows, keys) for row in piece]
    except StorageError as error:
        if isinstance(error, StorageAway):
            raise
        if len(keys) > 1:
            return [row for key in keys for row in _read_readable(reader, [key])]
        # An operator's matter; the others are not to wait for it.
        logger.error("fold %s: its predictions were left out: %s", keys[0], error.message)
        return []


class PredictionList(PredictionsView):
    """The predictions of the folds asked for, as far as they are finished."""

    def post(self, request: Request) -> HttpResponseBase:
        ids = read_input(PredictionListInput, request)["list_submission_fold"]
        owner = self.get_owner() or self.get_account()
        return self.answer(services.hand_out_listed(scope=self.scope, owner=owner, ids=ids))


class PredictionNew(PredictionsView):
    """The predictions that were never handed out, each to one caller."""

    def post(self, request: Request) -> HttpResponseBase:
        posted = read_input(PredictionNewInput, request)
        limit = posted.pop("limit")
        if posted["raw_data_id"] is not None:
            get_raw_data(scope=self.scope, pk=posted["raw_data_id"])
        waited = hold(request, services.list_new(owner=self.get_account(), **posted).exists)
        if waited:
            self.look_again()
        found = services.hand_out_new(owner=self.get_account(), limit=limit, **posted)
        response = self.answer(found)
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
        fold = get_fold(scope=self.scope, databoard_sf_id=databoard_sf_id, owner=self.get_owner())
        if not self.scope.may(READERS, raw_data_id=fold.raw_data_id, owner_id=fold.owner_id):
            raise Forbidden("You may see this fold but not its predictions.")
        found = Predictions.objects.filter(fold=fold, part=part).first()
        if found is None:
            raise NotFound("This fold has no predictions for that part.")
        etag = f'"{found.digest}"'
        if find_known(request, etag):
            return answer_not_modified(etag)
        content = services.read_predictions(found, bin=fold.submission.raw_data.bin)
        return HttpResponse(
            npy.write_array(content, shape=found.shape),
            content_type=npy.MEDIA_TYPE,
            headers={"ETag": etag, "Cache-Control": "private, no-cache"},
        )
