"""Who may do what, beyond seeing one's own rows (accounts/visible_rows.py)."""

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
        account = request.user
        return (
            account.is_superuser or account.groups.filter(name=settings.ORGANISERS_GROUP).exists()
        )


class MayReadAudit(BasePermission):
    """The audit is for operators (DATARUN_OPERATORS) and superusers."""

    message = "Only operators may read the audit."

    def has_permission(self, request: Request, view: Any) -> bool:
        return bool(view.scope.sees_all)
