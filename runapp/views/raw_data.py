"""Datasets: list, post, limits, delete, split, folds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib.auth.models import User
from django.db.models import QuerySet
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from runapp.accounts.access import ANYBODY, MANAGERS, NOBODY_ELSE, Roles
from runapp.accounts.quota_use import Measure, read_allowance
from runapp.accounts.visible_rows import get_raw_data, list_raw_data
from runapp.common import wire
from runapp.datasets import cross_validation
from runapp.datasets import raw_data as datasets
from runapp.http.permissions import MayPostDatasets
from runapp.http.view import DatarunView, read_input
from runapp.lists.feed import Feed, read_feed
from runapp.lists.filters import RawDataFilter
from runapp.lists.view import ListView
from runapp.models import RawData
from runapp.rows import AnyColumn
from runapp.serializers import (
    CustomSplitInput,
    FoldsInput,
    RawDataChanges,
    RawDataSerializer,
    SplitInput,
)
from runapp.views.account import tell_quotas


class RawDataView(DatarunView):
    """Shows single datasets."""

    def find(self, pk: int, roles: Roles) -> RawData:
        """Return a dataset that the caller may use as one of the roles may."""
        raw_data = get_raw_data(scope=self.scope, pk=pk)
        self.scope.check_raw_data(raw_data, roles)
        return raw_data

    def show(self, raw_data: RawData) -> dict[str, Any]:
        return RawDataSerializer(raw_data, context={"scope": self.scope}).data


class RawDataList(ListView, RawDataView):
    """List the datasets or post a new one."""

    permission_classes = (IsAuthenticated, MayPostDatasets)

    topic = "rawdata"
    filters = RawDataFilter

    def list_rows(self, *, owner: User | None) -> QuerySet[RawData]:
        return list_raw_data(scope=self.scope, owner=owner)

    def look(self, *, owner: User | None) -> tuple[Feed, Sequence[AnyColumn]]:
        return read_feed(model=RawData, scope=self.scope, owner=owner), RawDataSerializer.columns

    def post(self, request: Request) -> Response:
        posted = read_input(RawDataSerializer, request)
        limits = posted.pop("limits", {})
        owner = self.get_account()
        allowance = read_allowance(owner=owner)
        raw_data = datasets.create_raw_data(
            owner=owner, limits=limits, allowance=allowance, **posted
        )
        response = Response(self.show(raw_data), status=201)
        tell_quotas(response, Measure.STORED_BYTES, owner=owner, allowance=allowance)
        return response


class RawDataDetail(RawDataView):
    """One dataset."""

    def get(self, request: Request, pk: int) -> Response:
        return Response(self.show(get_raw_data(scope=self.scope, pk=pk)))

    def patch(self, request: Request, pk: int) -> Response:
        raw_data = get_raw_data(scope=self.scope, pk=pk)
        changes = read_input(RawDataChanges, request)
        if set(changes) != {"paused"} or not self.scope.may_steer(raw_data):
            self.scope.check_raw_data(raw_data, MANAGERS)
        changed = datasets.change_raw_data(raw_data=raw_data, **changes)
        return Response(self.show(changed))

    def delete(self, request: Request, pk: int) -> Response:
        datasets.delete_raw_data(raw_data=self.find(pk, NOBODY_ELSE))
        return Response(status=204)


class SplitTrainTest(RawDataView):
    """Split a CSV dataset into a train and a test part."""

    def post(self, request: Request) -> Response:
        posted = read_input(SplitInput, request)
        raw_data = self.find(posted.pop("raw_data_id"), MANAGERS)
        return Response({"task_id": datasets.request_split(raw_data=raw_data, **posted)})


class CustomSplit(RawDataView):
    """Split a dataset by its own module."""

    def post(self, request: Request) -> Response:
        posted = read_input(CustomSplitInput, request)
        raw_data = self.find(posted.pop("raw_data_id"), MANAGERS)
        return Response({"task_id": datasets.request_custom_split(raw_data=raw_data, **posted)})


class Folds(RawDataView):
    """Make cross-validation folds of the train part."""

    def post(self, request: Request, pk: int) -> Response:
        raw_data = self.find(pk, ANYBODY)
        posted = read_input(FoldsInput, request)
        folds = cross_validation.make_folds(raw_data=raw_data, **posted)
        return Response(
            [
                {
                    "fold": number,
                    "train_is": wire.encode_indices(train_is),
                    "test_is": wire.encode_indices(test_is),
                }
                for number, (train_is, test_is) in enumerate(folds)
            ]
        )
