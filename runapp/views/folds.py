"""Submissions and submission folds: list, post, look, cancel, re-prioritise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib.auth.models import User
from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from runapp.allowance import Measure, read_allowance
from runapp.exceptions import Forbidden, NotFound
from runapp.filters import FoldFilter, SubmissionFilter
from runapp.models import Submission, SubmissionFold
from runapp.position import find_position
from runapp.rows import (
    LIGHT_COLUMNS,
    OWNER,
    SUBMISSION_COLUMNS,
    AnyColumn,
    RowReader,
    make_fold_columns,
)
from runapp.selectors import (
    Feed,
    get_fold,
    get_raw_data,
    list_folds,
    list_submissions,
    read_circumstances,
    read_feed,
    read_feed_of_folds,
)
from runapp.serializers import PriorityInput, SubmissionFoldInput
from runapp.services import folds as services
from runapp.services.submissions import PostedSubmission
from runapp.views.account import tell_quotas
from runapp.views.base import DatarunView, read_input
from runapp.views.lists import ListView


class SubmissionList(ListView):
    """List the submissions."""

    topic = "submission"
    filters = SubmissionFilter
    has_changes = False

    def list_rows(self, *, owner: User | None) -> QuerySet[Submission]:
        return list_submissions(scope=self.scope, owner=owner)

    def look(self, *, owner: User | None) -> tuple[Feed, Sequence[AnyColumn]]:
        # A submission comes and changes with a fold only.
        feed = read_feed(model=SubmissionFold, scope=self.scope, owner=owner)
        return feed, SUBMISSION_COLUMNS


class FoldListView(ListView):
    """A list of folds."""

    topic = "submissionfold"
    filters = FoldFilter

    def list_rows(self, *, owner: User | None) -> QuerySet[SubmissionFold]:
        return list_folds(scope=self.scope, owner=owner)


class FoldView(DatarunView):
    """Shows single folds with all their attributes."""

    def show(self, fold: SubmissionFold) -> dict[str, Any]:
        columns = make_fold_columns(read_circumstances(scope=self.scope))
        reader = RowReader(columns if self.scope.is_alone else (*columns, OWNER), scope=self.scope)
        rows = reader.show(reader.fetch(SubmissionFold.objects.filter(pk=fold.pk)))
        if not rows:  # deleted with its dataset since it was found
            raise NotFound("Not found.")
        return rows[0]


class SubmissionFoldList(FoldListView, FoldView):
    """List the folds with all their attributes, or post one."""

    def look(self, *, owner: User | None) -> tuple[Feed, Sequence[AnyColumn]]:
        feed, circumstances = read_feed_of_folds(scope=self.scope, owner=owner)
        return feed, make_fold_columns(circumstances)

    def post(self, request: Request) -> Response:
        posted = read_input(SubmissionFoldInput, request)
        account = self.get_account()
        allowance = read_allowance(owner=account)
        raw_data = (
            get_raw_data(scope=self.scope, pk=posted["raw_data"], field="raw_data")
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
            allowance=allowance,
        )
        response = Response({**self.show(fold), "task_id": task_id}, status=201)
        tell_quotas(
            response, *Measure, owner=account, allowance=allowance, raw_data_id=fold.raw_data_id
        )
        return response


class SubmissionFoldDetail(FoldView):
    """One fold, with its place in the queue."""

    def show(self, fold: SubmissionFold) -> dict[str, Any]:
        row = super().show(fold)
        fresh = SubmissionFold.objects.select_related("submission__raw_data", "owner").filter(
            pk=fold.pk
        )
        position = find_position(fresh[0]) if row["waiting_because"] and fresh else None
        return {
            **row,
            "queue_position": position.number if position else None,
            "estimated_start": position.starts_at if position else None,
        }

    def get(self, request: Request, databoard_sf_id: int) -> Response:
        return Response(self.show(self._find(databoard_sf_id)))

    def delete(self, request: Request, databoard_sf_id: int) -> Response:
        fold = self._find_to_steer(databoard_sf_id)
        was_running = services.cancel_fold(fold=fold)
        response = Response(self.show(fold), status=202 if was_running else 200)
        account = self.get_account()
        if not was_running and fold.owner_id == account.pk:
            tell_quotas(
                response,
                Measure.FOLDS_PER_DAY,
                Measure.WAITING_FOLDS,
                owner=account,
                allowance=read_allowance(owner=account),
            )
        return response

    def patch(self, request: Request, databoard_sf_id: int) -> Response:
        fold = self._find_to_steer(databoard_sf_id)
        services.change_priority(fold=fold, **read_input(PriorityInput, request))
        return Response(self.show(fold))

    def _find(self, databoard_sf_id: int) -> SubmissionFold:
        return get_fold(scope=self.scope, databoard_sf_id=databoard_sf_id, owner=self.get_owner())

    def _find_to_steer(self, databoard_sf_id: int) -> SubmissionFold:
        fold = self._find(databoard_sf_id)
        if not self.scope.may_steer(fold):
            raise Forbidden("You may see this fold but not change it.")
        return fold


class SubmissionFoldLightList(FoldListView):
    """List what a poller needs of the folds."""

    may_wait = True

    def look(self, *, owner: User | None) -> tuple[Feed, Sequence[AnyColumn]]:
        return read_feed(model=SubmissionFold, scope=self.scope, owner=owner), LIGHT_COLUMNS
