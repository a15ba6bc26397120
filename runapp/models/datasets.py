"""Datasets and their splits."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q

from runapp.storage import Bin
from runapp.storage.configured import get_storage


def make_storage_key() -> str:
    return uuid.uuid4().hex


class RawData(models.Model):
    """A dataset and its split into a train and a test part."""

    class State(models.TextChoices):
        NEW = "NEW"
        SPLITTING = "SPLITTING"
        READY = "READY"
        ERROR = "ERROR"

    class SplitPhase(models.TextChoices):
        IDLE = "idle"
        WAITING = "waiting"
        RUNNING = "running"

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="raw_data")
    name = models.CharField(max_length=40)
    storage_key = models.CharField(max_length=32, default=make_storage_key, unique=True)
    target_column = models.CharField(max_length=255)
    workflow_elements = models.CharField(max_length=200)
    files = models.JSONField(help_text="File name -> SHA-256 digest.")
    limits = models.JSONField(default=dict, help_text="Limits that differ from the defaults.")
    paused = models.BooleanField(default=False, help_text="Its waiting folds stay where they are.")
    fail_fast = models.BooleanField(
        default=False,
        help_text="A fold that fails before `fit` ends the waiting folds of the same code.",
    )
    is_shared = models.BooleanField(
        default=False, help_text="Has been shared: others may have folds on it, even if no longer."
    )
    n_bytes = models.BigIntegerField(default=0, db_default=0, help_text="Of its files, unpacked.")
    created_at = models.DateTimeField(auto_now_add=True)
    # The clock's value at the last change that clients see; null only within a transaction.
    change_seq = models.BigIntegerField(null=True)

    state = models.CharField(max_length=9, choices=State, default=State.NEW)
    error_code = models.CharField(max_length=20, null=True)
    log_messages = models.TextField(default="")
    classes = models.JSONField(null=True)
    n_train = models.BigIntegerField(null=True)
    n_test = models.BigIntegerField(null=True)
    parts = models.JSONField(null=True, help_text="Part name -> SHA-256 digest.")
    split_digest = models.CharField(max_length=64, default="")

    # The split is work for a worker, claimed and held like a fold.
    split_phase = models.CharField(max_length=7, choices=SplitPhase, default=SplitPhase.IDLE)
    split_request = models.JSONField(null=True)
    split_attempt = models.PositiveIntegerField(default=0)
    split_failures = models.PositiveIntegerField(default=0)
    split_queued_at = models.DateTimeField(null=True)
    split_lease_expires_at = models.DateTimeField(null=True)
    split_worker = models.CharField(max_length=255, default="")

    # While it is being deleted: the accounts that see rows go with it.
    audience: set[int]

    class Meta:
        verbose_name_plural = "raw data"
        constraints = [
            models.UniqueConstraint(fields=["owner", "name"], name="raw_data_name_of_owner"),
        ]
        indexes = [
            models.Index(
                fields=["split_queued_at", "id"],
                name="raw_data_split_waiting",
                condition=Q(split_phase="waiting"),
            ),
            models.Index(fields=["change_seq", "id"], name="raw_data_changes"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def bin(self) -> Bin:
        return get_storage().get_bin(self.storage_key)

    @property
    def files_path(self) -> str:
        return self.bin.relative_path

    @property
    def elements(self) -> list[str]:
        return self.workflow_elements.split(",")

    @property
    def limits_in_force(self) -> dict[str, Any]:
        return {**settings.DEFAULT_LIMITS, **self.limits}

    @property
    def specific_module(self) -> str | None:
        """The name of the organiser's own module, if the dataset brings one."""
        modules = [name for name in self.files if name.endswith(".py")]
        return "specific.py" if "specific.py" in modules else (modules[0] if modules else None)
