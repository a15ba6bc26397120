"""Workers, and when they were last heard of."""

from __future__ import annotations

from django.db import models


class Worker(models.Model):
    """A running worker process and when it was last heard of."""

    name = models.CharField(max_length=255, unique=True)
    host = models.CharField(max_length=255)
    slots = models.PositiveIntegerField()
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    promises = models.JSONField(null=True, help_text="Those kept; null until it has tested itself.")
    self_test = models.JSONField(null=True, help_text="What it found when it tested itself.")
    versions = models.JSONField(default=dict, help_text="Of what runs folds there.")

    def __str__(self) -> str:
        return self.name
