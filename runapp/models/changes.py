"""What numbers the changes that clients see, and what is counted."""

from __future__ import annotations

import secrets

from django.conf import settings
from django.db import models


def make_epoch() -> str:
    return secrets.token_hex(8)


class Clock(models.Model):
    """The one row that numbers what clients can see change (`changes/feed.py`).

    Its lock is held until the end of the transaction that took the number, so the numbers become
    visible in their order: who has seen one has seen all below it.
    """

    value = models.BigIntegerField(default=1)
    # Cursors of another epoch, such as of the time before a backup was restored, are worth nothing.
    epoch = models.CharField(max_length=16, default=make_epoch)
    removed_seq = models.BigIntegerField(default=0, help_text="When rows were last removed.")

    def __str__(self) -> str:
        return f"{self.value}"


class Tally(models.Model):
    """What has been counted so far: one sample of a metric, in one of some shards.

    A sum over the shards only grows, whatever becomes of the rows that were counted. Beside the
    metrics are folds that ended, by ten minutes (`changes/ended_folds.py`); old ones are removed.
    """

    name = models.CharField(max_length=64)
    labels = models.CharField(max_length=200, help_text="JSON, its names sorted.")
    shard = models.PositiveSmallIntegerField(help_text="So that few writers meet in one row.")
    value = models.FloatField()

    class Meta:
        verbose_name_plural = "tallies"
        constraints = [
            models.UniqueConstraint(fields=["name", "labels", "shard"], name="tally_of_sample"),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.labels}: {self.value:g}"


class Removals(models.Model):
    """When rows of an account were last removed: a change that no row is left to tell of."""

    # Without a constraint: an account that is being deleted takes its datasets along.
    owner = models.OneToOneField(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", db_constraint=False
    )
    seq = models.BigIntegerField()

    class Meta:
        verbose_name_plural = "removals"

    def __str__(self) -> str:
        return f"removals of {self.owner_id}: {self.seq}"
