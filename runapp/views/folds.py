"""Submissions and submission folds: list, post, look, cancel, re-prioritise."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from runapp.exceptions import NotFound
from runapp.models import SubmissionFold
from runapp.selectors import (
    get_fold,
    get_raw_data,
    list_folds,
    list_submissions,
    read_circumstances,
)
from runapp.serializers import (
    PriorityInput,
    SubmissionFoldDetailSerializer,
    SubmissionFoldInput,
    SubmissionFoldLightSerializer,
    SubmissionFoldSerializer,
    SubmissionSerializer,
)
from runapp.services import folds as services
from runapp.services.submissions import PostedSubmission
from runapp.views.base import DatarunView, read_input

_CHUNK_ROWS = 500


class SubmissionList(DatarunView):
    """List the submissions."""

    def get(self, request: Request) -> Response:
        rows = list_submissions(account=self.get_account(), owner=self.get_owner())
        rows = self.with_owner(rows).select_related("raw_data")
        return Response(SubmissionSerializer(rows, many=True, context=self.get_context()).data)


class FoldView(DatarunView):
    """Shows folds with all their attributes."""

    serializer = SubmissionFoldSerializer

    def get_context(self) -> dict[str, Any]:
        account = self.get_account()
        owner = None if account.is_superuser else account
        return {**super().get_context(), "circumstances": read_circumstances(owner=owner)}

    def show(self, fold: SubmissionFold) -> dict[str, Any]:
        rows = SubmissionFold.objects.select_related("submission__raw_data", "owner")
        fresh = rows.prefetch_related("predictions").filter(pk=fold.pk).first()
        if fresh is None:  # deleted with its dataset since it was found
            raise NotFound("Not found.")
        return dict(self.serializer(fresh, context=self.get_context()).data)


class SubmissionFoldList(FoldView):
    """List the folds with all their attributes, or post one."""

    def get(self, request: Request) -> Response:
        rows = list_folds(account=self.get_account(), owner=self.get_owner())
        rows = rows.select_related("submission__raw_data", "owner").prefetch_related("predictions")
        # In pieces: the predictions of all at once would ask for more parameters than SQLite takes.
        serializer = SubmissionFoldSerializer(
            rows.iterator(chunk_size=_CHUNK_ROWS), many=True, context=self.get_context()
        )
        return Response(serializer.data)

    def post(self, request: Request) -> Response:
        posted = read_input(SubmissionFoldInput, request)
        account = self.get_account()
        raw_data = (
            get_raw_data(account=account, pk=posted["raw_data"], field="raw_data")
            if posted["raw_data"] is not None
            else None
        )
        fold, task_id = services.post_fold(
            owner=account,
            posted=services.PostedFold(
                databoard_sf_id=posted["databoard_sf_id"],
                train_is=posted["train_is"],
                test_is=posted["test_is"],
                priority=posted["priority"],
            ),
            submission=PostedSubmission(
                databoard_s_id=posted["databoard_s_id"],
                raw_data=raw_data,
                files=posted["files"],
            ),
            force=posted["force"],
        )
        return Response({**self.show(fold), "task_id": task_id}, status=201)


class SubmissionFoldDetail(FoldView):
    """One fold, with its place in the queue."""

    serializer = SubmissionFoldDetailSerializer

    def get(self, request: Request, databoard_sf_id: int) -> Response:
        return Response(self.show(self._find(databoard_sf_id)))

    def delete(self, request: Request, databoard_sf_id: int) -> Response:
        fold = self._find(databoard_sf_id)
        was_running = services.cancel_fold(fold=fold)
        return Response(self.show(fold), status=202 if was_running else 200)

    def patch(self, request: Request, databoard_sf_id: int) -> Response:
        fold = self._find(databoard_sf_id)
        services.change_priority(fold=fold, **read_input(PriorityInput, request))
        return Response(self.show(fold))

    def _find(self, databoard_sf_id: int) -> SubmissionFold:
        return get_fold(
            account=self.get_account(), databoard_sf_id=databoard_sf_id, owner=self.get_owner()
        )


class SubmissionFoldLightList(DatarunView):
    """List what a poller needs of the folds."""

    def get(self, request: Request) -> Response:
        rows = list_folds(account=self.get_account(), owner=self.get_owner())
        rows = rows.select_related("submission", "owner").only(
            "databoard_sf_id", "state", "new", "submission__databoard_s_id", "owner__username"
        )
        serializer = SubmissionFoldLightSerializer(rows, many=True, context=self.get_context())
        return Response(serializer.data)
