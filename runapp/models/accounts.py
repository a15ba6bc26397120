"""What accounts have: shares, tokens, quotas, and what they have used of the slots."""

from __future__ import annotations

import secrets

from django.conf import settings
from django.db import models
from django.db.models import Q
from knox.models import AbstractAuthToken

from runapp.common.validators import check_name

MOST_TOKEN_DAYS = 3650


def make_public_id() -> str:
    return secrets.token_hex(8)


class Share(models.Model):
    """What an account, or every member of a group, may do with another's dataset."""

    class Role(models.TextChoices):
        SUBMIT = "submit"
        READ = "read"
        MANAGE = "manage"

    raw_data = models.ForeignKey("runapp.RawData", models.CASCADE, related_name="shares")
    account = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, null=True, blank=True, related_name="shares"
    )
    group = models.ForeignKey(
        "auth.Group", models.CASCADE, null=True, blank=True, related_name="shares"
    )
    role = models.CharField(max_length=6, choices=Role)
    created_at = models.DateTimeField(auto_now_add=True)

    # While it is being deleted: the accounts that it lets in.
    grantees: set[int]

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(account=None, group__isnull=False)
                | Q(account__isnull=False, group=None),
                name="share_is_of_one",
            ),
            models.UniqueConstraint(
                fields=["raw_data", "account", "role"], name="share_of_account"
            ),
            models.UniqueConstraint(fields=["raw_data", "group", "role"], name="share_of_group"),
        ]

    def __str__(self) -> str:
        return f"{self.role} of dataset {self.raw_data_id}"


class FairShare(models.Model):
    """What an account has lately used of the slots; who has used least comes first."""

    owner = models.OneToOneField(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="fair_share"
    )
    seconds = models.FloatField(default=0, help_text="Recent running time; halved every hour.")
    counted_at = models.DateTimeField(help_text="Until when the running time has been decayed.")
    expected_seconds = models.FloatField(help_text="How long its folds have lately taken.")
    cap = models.PositiveIntegerField(
        null=True, blank=True, help_text="Most folds that run at once; empty for the setting's."
    )

    def __str__(self) -> str:
        return f"share of {self.owner_id}"


class Quota(models.Model):
    """What an account may have and do beside the settings (`accounts/quota_use.py`).

    Its row is also the lock under which posts are counted against the limits.
    """

    account = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, related_name="quota")
    stored_mb = models.PositiveIntegerField(
        null=True, blank=True, help_text="MB stored; empty for the setting's."
    )
    waiting_folds = models.PositiveIntegerField(
        null=True, blank=True, help_text="Folds that wait at once; empty for the setting's."
    )
    folds_per_day = models.PositiveIntegerField(
        null=True, blank=True, help_text="Folds posted in a day (UTC); empty for the setting's."
    )
    submissions_per_day = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="Submissions in a day (UTC) to each dataset; empty for the setting's.",
    )

    def __str__(self) -> str:
        return f"quota of {self.account_id}"


class DailyUse(models.Model):
    """What an account has posted on a dataset in a day."""

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", db_index=False
    )
    # No reference: the count outlives the dataset.
    raw_data_id = models.BigIntegerField()
    day = models.DateField(help_text="In UTC, by the database's clock.")
    folds = models.PositiveIntegerField(help_text="Folds, less those that were refunded.")
    submissions = models.PositiveIntegerField(help_text="New submissions and new code of known.")

    class Meta:
        verbose_name_plural = "daily use"
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "day", "raw_data_id"], name="daily_use_of_owner"
            ),
        ]

    def __str__(self) -> str:
        return f"use of {self.owner_id} on {self.day}"


class AccessToken(AbstractAuthToken):  # type: ignore[misc]  # knox has no types
    """What an account signs in by without its password; of the key a hash is kept."""

    # How it is named to others, who must not learn its hash.
    public_id = models.CharField(max_length=16, default=make_public_id, unique=True)
    name = models.CharField(max_length=100, validators=[check_name])
    last_used_at = models.DateTimeField(null=True, help_text="To a minute.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "name"], name="token_name_of_user"),
        ]

    def __str__(self) -> str:
        return str(self.name)
