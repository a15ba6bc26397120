"""Who may do what, beyond seeing one's own rows (selectors.py)."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView


class MayPostDatasets(BasePermission):
    """Reading is everybody's; posting a dataset may be kept to a group (DATARUN_ORGANISERS)."""

    message = "Only organisers may post datasets here."

    def has_permission(self, request: Request, view: APIView) -> bool:
        if request.method in SAFE_METHODS or not settings.ORGANISERS_GROUP:
            return True
        return is_member(request.user, settings.ORGANISERS_GROUP)


class MayReadAudit(BasePermission):
    """The audit is for operators (DATARUN_OPERATORS) and superusers."""

    message = "Only operators may read the audit."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return is_member(request.user, settings.OPERATORS_GROUP)


def is_member(account: Any, group: str) -> bool:
    """Tell whether an account is a superuser, or in the group of a name that is not empty."""
    if account.is_superuser or not group:
        return bool(account.is_superuser)
    return bool(account.groups.filter(name=group).exists())
