"""A read-mostly admin site: what is changed here goes through the services, as everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from knox.models import get_digest_token
from knox.settings import CONSTANTS

from runapp.access import read_scope
from runapp.board.pages import ROWS
from runapp.events import Action, AuditEvent
from runapp.models import (
    AccessToken,
    Clock,
    DailyUse,
    FairShare,
    FoldAttempt,
    Predictions,
    Quota,
    RawData,
    Removals,
    Share,
    Submission,
    SubmissionFold,
    Tally,
    Worker,
)
from runapp.search import ERROR_CODES
from runapp.services import audit
from runapp.services.deeds import DEEDS, Deed
from runapp.services.quotas import set_quota
from runapp.services.raw_data import change_raw_data
from runapp.services.sharing import share_raw_data, withdraw_share
from runapp.services.steering import Seen
from runapp.transitions import Phase
from runapp.views.ops.actions import confirm
from runapp.views.ops.base import protect

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
    OwnUserAdmin = UserAdmin[User]
else:
    ModelAdmin = admin.ModelAdmin
    OwnUserAdmin = UserAdmin


class SoundListAdmin(ModelAdmin):
    """Answers what no database can look for as Django answers a number that is none."""

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        # PostgreSQL refuses to look for a NUL.
        if any("\0" in value for value in request.GET.values()):
            raise IncorrectLookupParameters
        try:
            return super().get_changelist_instance(request)
        except OverflowError as error:
            # A year that no date has.
            raise IncorrectLookupParameters from error


class ReadOnlyAdmin(SoundListAdmin):
    """Shows rows; changes go through the API, whose rules a form would bypass."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.action(description="Pause: waiting folds do not start")
def pause(admin_of: Any, request: HttpRequest, rows: QuerySet[RawData]) -> None:
    for raw_data in rows:
        change_raw_data(raw_data=raw_data, paused=True)


@admin.action(description="Resume")
def resume(admin_of: Any, request: HttpRequest, rows: QuerySet[RawData]) -> None:
    for raw_data in rows:
        change_raw_data(raw_data=raw_data, paused=False)


def make_action(deed: Deed) -> Callable[..., HttpResponse | None]:
    """Return an action that asks, on the operators' own page, whether to do something to folds."""

    @admin.action(description=f"{deed.title}...")
    def ask(
        admin_of: Any, request: HttpRequest, rows: QuerySet[SubmissionFold]
    ) -> HttpResponse | None:
        shown = rows.values_list("pk", "attempt", "phase", "queued_at")[: ROWS + 1]
        if len(shown) > ROWS:
            _refuse_so_many(request)
            return None
        ticked = [Seen(pk, attempt, Phase(phase), queued) for pk, attempt, phase, queued in shown]
        return protect(confirm(request, deed, ticked, back=request.get_full_path()))

    ask.__name__ = deed.name
    return ask


def _refuse_so_many(request: HttpRequest) -> None:
    # What is filtered by here is not what is searched for there, so it is not taken along.
    text = (
        "Nothing was done: at most {} folds can be selected here. "
        "<a href='{}'>The operators' pages</a> can do this to all folds that match a search."
    )
    messages.error(request, format_html(text, ROWS, reverse("ops:folds")))


class SteeredAdmin(ReadOnlyAdmin):
    """Rows to which operators may do something."""

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        is_operator = read_scope(cast(User, request.user)).sees_all
        return super().get_actions(request) if is_operator else {}


@admin.register(RawData)
class RawDataAdmin(SteeredAdmin):
    actions = (pause, resume)
    list_display = ("id", "name", "owner", "state", "paused", "n_train", "n_test", "created_at")
    list_filter = ("state", "paused")
    search_fields = ("name", "owner__username")
    list_select_related = ("owner",)


class ShareForm(forms.ModelForm):  # type: ignore[type-arg]  # it takes none when it runs
    """A share of one account or one group, checked as the API checks it."""

    def clean(self) -> dict[str, Any] | None:
        given = super().clean() or {}
        raw_data, account = given.get("raw_data"), given.get("account")
        if (account is None) == (given.get("group") is None):
            self.add_error("account", "Give either an account or a group.")
        elif raw_data is not None and account is not None and account.pk == raw_data.owner_id:
            self.add_error("account", "This account owns the dataset.")
        return given


@admin.register(Share)
class ShareAdmin(ReadOnlyAdmin):
    list_display = ("id", "raw_data", "role", "account", "group", "created_at")
    list_filter = ("role",)
    search_fields = ("raw_data__name", "account__username", "group__name")
    list_select_related = ("raw_data", "account", "group")
    fields = ("raw_data", "role", "account", "group")
    autocomplete_fields = ("raw_data", "account", "group")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("runapp.add_share"))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm("runapp.delete_share"))

    def get_form(self, request: HttpRequest, *args: Any, **options: Any) -> Any:
        return super().get_form(request, *args, **{**options, "form": ShareForm})

    def save_model(self, request: HttpRequest, obj: Share, form: Any, change: bool) -> None:
        saved = share_raw_data(
            raw_data=obj.raw_data,
            role=obj.role,
            account=None if obj.account is None else obj.account.username,
            group=None if obj.group is None else obj.group.name,
        )
        obj.pk = saved.pk

    def delete_model(self, request: HttpRequest, obj: Share) -> None:
        withdraw_share(share=obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Share]) -> None:
        for share in queryset:
            withdraw_share(share=share)


@admin.register(Submission)
class SubmissionAdmin(ReadOnlyAdmin):
    list_display = ("id", "databoard_s_id", "owner", "raw_data", "created_at")
    search_fields = ("=databoard_s_id", "owner__username")
    list_select_related = ("owner", "raw_data")


class ErrorCodeFilter(admin.SimpleListFilter):
    """Offers the codes that there are, without a look through all folds for those in use."""

    title = "error code"
    parameter_name = "error_code__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(code, code) for code in ERROR_CODES]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[SubmissionFold]
    ) -> QuerySet[SubmissionFold]:
        code = self.value()
        if code is None:
            return queryset
        return queryset.filter(error_code=code) if code in ERROR_CODES else queryset.none()


@admin.register(SubmissionFold)
class SubmissionFoldAdmin(SteeredAdmin):
    actions = tuple(map(make_action, DEEDS.values()))
    # All of a page can be ticked.
    list_per_page = ROWS
    list_display = ("id", "databoard_sf_id", "owner", "state", "error_code", "priority", "phase")
    list_filter = ("state", "priority", "phase", ErrorCodeFilter)
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


@admin.register(Quota)
class QuotaAdmin(ReadOnlyAdmin):
    list_display = ("account", *settings.QUOTAS)
    search_fields = ("account__username",)
    list_select_related = ("account",)
    fields = ("account", *settings.QUOTAS)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("runapp.add_quota"))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm("runapp.change_quota"))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return () if obj is None else ("account",)

    def save_model(self, request: HttpRequest, obj: Quota, form: Any, change: bool) -> None:
        limits = {name: getattr(obj, name) for name in settings.QUOTAS}
        saved = set_quota(account=obj.account, changes=limits)
        obj.pk = saved.pk


@admin.register(DailyUse)
class DailyUseAdmin(ReadOnlyAdmin):
    list_display = ("day", "owner", "raw_data_id", "folds", "submissions")
    search_fields = ("owner__username",)
    list_select_related = ("owner",)
    date_hierarchy = "day"


@admin.register(Predictions)
class PredictionsAdmin(ReadOnlyAdmin):
    list_display = ("id", "fold", "part", "shape", "digest")
    list_filter = ("part",)
    search_fields = ("=digest", "=fold__databoard_sf_id")
    list_select_related = ("fold",)
    exclude = ("data",)


@admin.register(Clock)
class ClockAdmin(ReadOnlyAdmin):
    list_display = ("value", "epoch", "removed_seq")


@admin.register(Removals)
class RemovalsAdmin(ReadOnlyAdmin):
    list_display = ("owner", "seq")
    search_fields = ("owner__username",)
    list_select_related = ("owner",)


@admin.register(Tally)
class TallyAdmin(ReadOnlyAdmin):
    list_display = ("name", "labels", "shard", "value")
    list_filter = ("name",)
    search_fields = ("name", "labels")


@admin.register(FoldAttempt)
class FoldAttemptAdmin(ReadOnlyAdmin):
    list_filter = ("outcome",)
    search_fields = ("=fold__databoard_sf_id", "=worker", "=outcome")
    list_display = ("id", "fold", "number", "worker", "outcome", "refused", "ended_at")
    list_select_related = ("fold",)


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    list_display = ("name", "host", "slots", "promises", "started_at", "seen_at")
    search_fields = ("name", "host")


@admin.register(AccessToken)
class AccessTokenAdmin(SoundListAdmin):
    """Makes and revokes tokens; a key is shown once, to who has made it."""

    list_display = ("public_id", "name", "user", "created", "expiry", "last_used_at")
    search_fields = ("=public_id", "name", "user__username")
    list_select_related = ("user",)
    fields = ("user", "name", "expiry")
    autocomplete_fields = ("user",)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        # A superuser's token would be worth more than the right to make tokens.
        if not request.user.is_superuser:
            options["queryset"] = User.objects.filter(is_superuser=False)
        return super().formfield_for_foreignkey(db_field, request, **options)

    def save_model(self, request: HttpRequest, obj: AccessToken, form: Any, change: bool) -> None:
        obj.digest, key = get_digest_token()
        obj.token_key = key[: CONSTANTS.TOKEN_KEY_LENGTH]
        obj.save(force_insert=True)
        self.message_user(
            request, f"The key, which will not be shown again: {key}", messages.WARNING
        )


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display = ("at", "actor", "via", "address", "action", "kind", "target", "owner", "facts")
    list_filter = ("action", "kind", "via")
    search_fields = ("=actor", "=owner", "=address")
    ordering = ("-id",)


admin.site.unregister(User)


@admin.register(User)
class AccountAdmin(SoundListAdmin, OwnUserAdmin):
    """Django's own, whose one change outside of a transaction is made in one, with its event."""

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        # Accounts that have something are disabled, not deleted; what was noted for one is nothing.
        *found, needed, protected = super().get_deleted_objects(objs, request)
        return *found, needed - {str(Removals._meta.verbose_name)}, protected

    def user_change_password(
        self, request: HttpRequest, id: str, form_url: str = ""
    ) -> HttpResponse:
        with transaction.atomic():
            return super().user_change_password(request, id, form_url)
