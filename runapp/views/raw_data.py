"""Datasets: list, post, limits, delete, split, folds."""

from __future__ import annotations

from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from runapp import wire
from runapp.permissions import MayPostDatasets
from runapp.selectors import get_raw_data, list_raw_data
from runapp.serializers import (
    CustomSplitInput,
    FoldsInput,
    RawDataChanges,
    RawDataInput,
    RawDataSerializer,
    SplitInput,
)
from runapp.services import cross_validation
from runapp.services import raw_data as services
from runapp.views.base import DatarunView, read_input


class RawDataList(DatarunView):
    """List the datasets or post a new one."""

    permission_classes = (IsAuthenticated, MayPostDatasets)

    def get(self, request: Request) -> Response:
        rows = self.with_owner(list_raw_data(account=self.get_account(), owner=self.get_owner()))
        return Response(RawDataSerializer(rows, many=True, context=self.get_context()).data)

    def post(self, request: Request) -> Response:
        posted = read_input(RawDataInput, request)
        limits = posted.pop("limits", {})
        raw_data = services.create_raw_data(owner=self.get_account(), limits=limits, **posted)
        data = RawDataSerializer(raw_data, context=self.get_context()).data
        return Response(data, status=201)


class RawDataDetail(DatarunView):
    """One dataset."""

    def get(self, request: Request, pk: int) -> Response:
        raw_data = get_raw_data(account=self.get_account(), pk=pk)
        return Response(RawDataSerializer(raw_data, context=self.get_context()).data)

    def patch(self, request: Request, pk: int) -> Response:
        raw_data = get_raw_data(account=self.get_account(), pk=pk)
        changes = read_input(RawDataChanges, request)
        changed = services.change_raw_data(raw_data=raw_data, **changes)
        return Response(RawDataSerializer(changed, context=self.get_context()).data)

    def delete(self, request: Request, pk: int) -> Response:
        services.delete_raw_data(raw_data=get_raw_data(account=self.get_account(), pk=pk))
        return Response(status=204)


class Split(DatarunView):
    """Split a CSV dataset into a train and a test part."""

    def post(self, request: Request) -> Response:
        posted = read_input(SplitInput, request)
        raw_data = get_raw_data(account=self.get_account(), pk=posted.pop("raw_data_id"))
        return Response({"task_id": services.request_split(raw_data=raw_data, **posted)})


class CustomSplit(DatarunView):
    """Split a dataset by its own module."""

    def post(self, request: Request) -> Response:
        posted = read_input(CustomSplitInput, request)
        raw_data = get_raw_data(account=self.get_account(), pk=posted.pop("raw_data_id"))
        return Response({"task_id": services.request_custom_split(raw_data=raw_data, **posted)})


class Folds(DatarunView):
    """Make cross-validation folds of the train part."""

    def post(self, request: Request, pk: int) -> Response:
        raw_data = get_raw_data(account=self.get_account(), pk=pk)
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
