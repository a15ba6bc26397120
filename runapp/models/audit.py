"""The audit's table: rows that are added and never changed."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models.functions import Now

_FINAL = "Events of the audit are neither changed nor deleted."


class Action(models.TextChoices):
    """What was done, in words that stay."""

    SIGN_IN = "sign_in"
    SIGN_IN_FAILED = "sign_in_failed"
    LOCKED_OUT = "locked_out"
    RAW_DATA_POSTED = "raw_data_posted"
    RAW_DATA_CHANGED = "raw_data_changed"
    RAW_DATA_DELETED = "raw_data_deleted"
    SPLIT_REQUESTED = "split_requested"
    SUBMISSION_POSTED = "submission_posted"
    SUBMISSION_FORCED = "submission_forced"
    FOLD_FORCED = "fold_forced"
    FOLD_CANCELLED = "fold_cancelled"
    PRIORITY_CHANGED = "priority_changed"
    SHARE_MADE = "share_made"
    SHARE_REMOVED = "share_removed"
    TOKEN_MADE = "token_made"
    TOKEN_REVOKED = "token_revoked"
    QUOTA_CHANGED = "quota_changed"
    PASSWORD_CHANGED = "password_changed"
    ACCOUNT_MADE = "account_made"
    ACCOUNT_CHANGED = "account_changed"
    ACCOUNT_DISABLED = "account_disabled"
    ACCOUNT_ENABLED = "account_enabled"
    ACCOUNT_DELETED = "account_deleted"
    ROLES_CHANGED = "roles_changed"
    GROUP_MADE = "group_made"
    GROUP_CHANGED = "group_changed"
    GROUP_DELETED = "group_deleted"


class Kind(models.TextChoices):
    """To what it was done."""

    RAW_DATA = "raw_data"
    SUBMISSION = "submission"
    SUBMISSION_FOLD = "submission_fold"
    ACCOUNT = "account"
    GROUP = "group"
    TOKEN = "token"
    SHARE = "share"
    QUOTA = "quota"


class Via(models.TextChoices):
    """How whoever did it was known."""

    BASIC = "basic"
    TOKEN = "token"
    SESSION = "session"
    ADMIN = "admin"
    COMMAND = "command"
    WORKER = "worker"


class AppendOnlyQuerySet(models.QuerySet[Any]):
    """Rows that can be read, and added to."""

    def update(self, **changes: Any) -> int:
        raise TypeError(_FINAL)

    def delete(self) -> tuple[int, dict[str, int]]:
        raise TypeError(_FINAL)


class AuditEvent(models.Model):
    """Who did what, when, and from where.

    It refers to nothing: an event outlives its account and its dataset, and tells the names of
    then. The words of `Action`, `Kind` and `Via` are no choices of the columns, so that a new word
    is no change of the table. A trigger keeps rows as they are, too (migration 0010).
    """

    at = models.DateTimeField(db_default=Now())
    actor_id = models.BigIntegerField(null=True)
    actor = models.CharField(max_length=150, default="")
    via = models.CharField(max_length=20)
    address = models.CharField(max_length=64, default="")
    action = models.CharField(max_length=40)
    kind = models.CharField(max_length=40)
    target = models.CharField(max_length=64, default="", help_text="As the API names it.")
    owner_id = models.BigIntegerField(null=True, help_text="Whose the target is, or was.")
    owner = models.CharField(max_length=150, default="")
    raw_data_id = models.BigIntegerField(null=True)
    facts = models.JSONField(default=dict)

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        indexes = [
            # Every filter leads to its rows in the order of the list.
            models.Index(fields=["actor", "id"], name="audit_actor"),
            models.Index(fields=["owner", "id"], name="audit_owner"),
            models.Index(fields=["action", "id"], name="audit_action"),
            models.Index(fields=["kind", "target", "id"], name="audit_target"),
            models.Index(fields=["raw_data_id", "id"], name="audit_raw_data"),
            models.Index(fields=["address", "id"], name="audit_address"),
            models.Index(fields=["at"], name="audit_at"),
        ]

    def __str__(self) -> str:
        return f"{self.action} of {self.kind} {self.target}"

    def save(self, *args: Any, **options: Any) -> None:
        """Add the row."""
        if not self._state.adding:
            raise TypeError(_FINAL)
        super().save(*args, **options)

    def delete(self, *args: Any, **options: Any) -> tuple[int, dict[str, int]]:
        """Refuse."""
        raise TypeError(_FINAL)
