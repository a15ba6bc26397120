"""Shares of a dataset: who else may use it, and how."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from runapp.accounts.access import MANAGERS, NOBODY_ELSE
from runapp.datasets import sharing
from runapp.http.view import read_input
from runapp.models import Share
from runapp.serializers import ShareInput
from runapp.views.raw_data import RawDataView

_COLUMNS = ("id", "account__username", "group__name", "role", "created_at")


class ShareList(RawDataView):
    """List the shares of a dataset, or make one."""

    def get(self, request: Request, pk: int) -> Response:
        shares = self.find(pk, MANAGERS).shares.order_by("pk").values_list(*_COLUMNS)
        return Response([_show(*values) for values in shares])

    def post(self, request: Request, pk: int) -> Response:
        raw_data = self.find(pk, NOBODY_ELSE)
        share = sharing.share_raw_data(raw_data=raw_data, **read_input(ShareInput, request))
        made = Share.objects.filter(pk=share.pk).values_list(*_COLUMNS)
        return Response(_show(*made[0]), status=201)


class ShareDetail(RawDataView):
    """One share of a dataset."""

    def delete(self, request: Request, pk: int, share: int) -> Response:
        raw_data = self.find(pk, NOBODY_ELSE)
        sharing.withdraw_share(share=sharing.get_share(raw_data=raw_data, pk=share))
        return Response(status=204)


def _show(pk: int, account: str | None, group: str | None, role: str, created_at: Any) -> Any:
    return {"id": pk, "account": account, "group": group, "role": role, "created_at": created_at}
