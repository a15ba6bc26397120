"""The audit: who did what, when, and from where."""

from __future__ import annotations

from collections.abc import Sequence

from django.contrib.auth.models import User
from django.db.models import QuerySet
from rest_framework.permissions import IsAuthenticated

from runapp.http.permissions import MayReadAudit
from runapp.lists.feed import Feed, list_events, read_feed_of_events
from runapp.lists.filters import AuditFilter
from runapp.lists.view import ListView
from runapp.models.audit import AuditEvent
from runapp.rows import AUDIT_COLUMNS, AnyColumn


class AuditList(ListView):
    """List the audit's events, for operators."""

    permission_classes = (IsAuthenticated, MayReadAudit)

    topic = "audit"
    filters = AuditFilter
    has_changes = False
    has_owners = False  # an event tells of its owner itself
    may_turn = True

    def list_rows(self, *, owner: User | None) -> QuerySet[AuditEvent]:
        return list_events()

    def look(self, *, owner: User | None) -> tuple[Feed, Sequence[AnyColumn]]:
        return read_feed_of_events(), AUDIT_COLUMNS
