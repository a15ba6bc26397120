"""Who asks, and what is left of what the account may do."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response

from runapp.access import read_scope
from runapp.allowance import Allowance, Measure, Standing, read_allowance, read_standing
from runapp.exceptions import Forbidden
from runapp.views.base import DatarunView


class AccountView(DatarunView):
    """The caller's account: its name, its roles and its quotas."""

    def get(self, request: Request) -> Response:
        account = self._find_account()
        standing = read_standing(
            owner=account, allowance=read_allowance(owner=account), measures=tuple(Measure)
        )
        return Response(
            {
                "name": account.username,
                "is_superuser": account.is_superuser,
                "is_operator": read_scope(account).is_operator,
                "quotas": {str(measure): _show(standing, measure) for measure in Measure},
            }
        )

    def _find_account(self) -> User:
        account, owner = self.get_account(), self.get_owner()
        if owner not in (None, account) and not self.scope.sees_all:
            raise Forbidden("This is not your account.")
        return owner or account


def _show(standing: Standing, measure: Measure) -> dict[str, Any]:
    allowance = standing.allowance
    limit = {"limit": allowance.limits.get(measure)}
    reset = {"resets_at": allowance.resets_at if measure.is_daily else None}
    if measure is not Measure.SUBMISSIONS_PER_DAY:
        return {**limit, **_show_use(standing, measure), **reset}
    datasets = [
        {"raw_data": key, **_show_use(standing, measure, raw_data_id=key)}
        for key in sorted(standing.use.submissions)
    ]
    return {**limit, "datasets": datasets, **reset}


def _show_use(standing: Standing, measure: Measure, *, raw_data_id: int = 0) -> dict[str, Any]:
    left = None
    if measure in standing.allowance.limits:
        left = max(int(standing.count_left(measure, raw_data_id=raw_data_id)), 0)
    return {"used": standing.use.get(measure, raw_data_id=raw_data_id), "left": left}


def tell_quotas(
    response: HttpResponseBase,
    *measures: Measure,
    owner: User,
    allowance: Allowance,
    raw_data_id: int = 0,
) -> None:
    """Tell in an answer what is left of an account's quotas; nothing where there are none."""
    asked = allowance.limits.keys() & set(measures)
    if not asked:
        return
    standing = read_standing(owner=owner, allowance=allowance, measures=asked)
    fields = standing.make_fields(*measures, raw_data_id=raw_data_id)
    for name, value in fields.items():
        response.headers[name] = value
