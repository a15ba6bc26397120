"""A read-mostly admin for operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest, HttpResponse

from runapp.events import Action, AuditEvent
from runapp.models import FairShare, FoldAttempt, RawData, Submission, SubmissionFold, Worker
from runapp.services import audit

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
    OwnUserAdmin = UserAdmin[User]
else:
    ModelAdmin = admin.ModelAdmin
    OwnUserAdmin = UserAdmin


class ReadOnlyAdmin(ModelAdmin):
    """Shows rows; changes go through the API, whose rules a form would bypass."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(RawData)
class RawDataAdmin(ReadOnlyAdmin):
    list_display = ("id", "name", "owner", "state", "n_train", "n_test", "created_at")
    list_filter = ("state",)
    search_fields = ("name", "owner__username")
    list_select_related = ("owner",)


@admin.register(Submission)
class SubmissionAdmin(ReadOnlyAdmin):
    list_display = ("id", "databoard_s_id", "owner", "raw_data", "created_at")
    search_fields = ("=databoard_s_id", "owner__username")
    list_select_related = ("owner", "raw_data")


@admin.register(SubmissionFold)
class SubmissionFoldAdmin(ReadOnlyAdmin):
    list_display = ("id", "databoard_sf_id", "owner", "state", "error_code", "priority", "phase")
    list_filter = ("state", "priority", "phase", "error_code")
    search_fields = ("=databoard_sf_id", "owner__username")
    list_select_related = ("owner",)
    exclude = ("train_is", "test_is")


@admin.register(FairShare)
class FairShareAdmin(ReadOnlyAdmin):
    list_display = ("owner", "seconds", "expected_seconds", "cap", "counted_at")
    search_fields = ("owner__username",)
    list_select_related = ("owner",)
    readonly_fields = ("owner", "seconds", "expected_seconds", "counted_at")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm("runapp.change_fairshare"))

    def save_model(self, request: HttpRequest, obj: FairShare, form: Any, change: bool) -> None:
        # The rest of the row changes all the time, and not by this form.
        obj.save(update_fields=["cap"])
        if "cap" in form.changed_data:
            audit.record(action=Action.QUOTA_CHANGED, of=obj, facts={"cap": obj.cap})


@admin.register(FoldAttempt)
class FoldAttemptAdmin(ReadOnlyAdmin):
    list_display = ("id", "fold", "number", "worker", "outcome", "refused", "ended_at")
    list_select_related = ("fold",)


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    list_display = ("name", "host", "slots", "promises", "started_at", "seen_at")


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display = ("at", "actor", "via", "address", "action", "kind", "target", "owner", "facts")
    list_filter = ("action", "kind", "via")
    search_fields = ("=actor", "=owner", "=address")
    ordering = ("-id",)


admin.site.unregister(User)


@admin.register(User)
class AccountAdmin(OwnUserAdmin):
    """Django's own, whose one change outside of a transaction is made in one, with its event."""

    def user_change_password(
        self, request: HttpRequest, id: str, form_url: str = ""
    ) -> HttpResponse:
        with transaction.atomic():
            return super().user_change_password(request, id, form_url)
