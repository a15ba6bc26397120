"""Submissions, folds, their attempts and predictions: fields, constraints, chainable filters."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.expressions import RawSQL
from django.db.models.functions import Coalesce, Greatest

from runapp.common.transitions import Phase, State
from runapp.models.datasets import RawData

MAX_CLIENT_ID = 2**63 - 1


def _choices(enum: Any) -> list[tuple[str, str]]:
    return [(str(member), str(member)) for member in enum]


class Submission(models.Model):
    """A participant's code on one dataset."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="submissions")
    raw_data = models.ForeignKey(RawData, models.CASCADE, related_name="submissions")
    databoard_s_id = models.BigIntegerField(null=True)
    files = models.JSONField(help_text="File name -> SHA-256 digest.")
    hash_files = models.CharField(max_length=64)
    n_bytes = models.BigIntegerField(default=0, db_default=0, help_text="Of its files, unpacked.")
    n_posted = models.PositiveIntegerField(default=0, help_text="Folds ever posted for it.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "databoard_s_id"], name="submission_id_of_owner"
            ),
        ]
        indexes = [models.Index(fields=["databoard_s_id"], name="submission_client_ids")]

    def __str__(self) -> str:
        return f"submission {self.databoard_s_id}"

    @property
    def files_path(self) -> str:
        return f"{self.raw_data.files_path}/code/{self.hash_files[:2]}/{self.hash_files}"


# What a finished fold has used in all, and the measure without which it is not known. No number
# stands in the text, as SQLite takes a query's for another than an index's; what is added to
# nothing is nothing on both databases.
MEASURES = {
    "wall": (
        "train_time",
        Coalesce(
            F("train_time") + F("validation_time") + F("test_time"),
            F("train_time") + F("validation_time"),
            F("train_time"),
        ),
    ),
    "cpu": (
        "train_cpu_time",
        Coalesce(F("train_cpu_time") + F("test_cpu_time"), F("train_cpu_time")),
    ),
    "memory": (
        "train_memory",
        Coalesce(Greatest("train_memory", "test_memory"), F("train_memory")),
    ),
}


def is_measured(column: str) -> Q:
    """Return the condition that a fold has finished and that something of it was measured."""
    return Q(**{"finished_at__isnull": False, f"{column}__isnull": False})


class SubmissionFold(models.Model):
    """One submission on one cross-validation fold."""

    class Priority(models.TextChoices):
        # In the order in which they are served: "H" sorts before "L".
        HIGH = "H"
        LOW = "L"

    # Indexed below, together with the row's age.
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="folds", db_index=False
    )
    submission = models.ForeignKey(Submission, models.CASCADE, related_name="folds")
    # The submission's own, again: the queue is ordered by it.
    raw_data = models.ForeignKey(RawData, models.CASCADE, related_name="folds", db_index=False)
    databoard_sf_id = models.BigIntegerField(null=True)
    # zlib-compressed little-endian int64, the wire form less its base64.
    train_is = models.BinaryField()
    test_is = models.BinaryField()
    priority = models.CharField(max_length=1, choices=Priority, default=Priority.LOW)
    rank = models.PositiveIntegerField(default=0, help_text="Its number within its submission.")

    phase = models.CharField(max_length=7, choices=_choices(Phase), default=Phase.WAITING)
    attempt = models.PositiveIntegerField(default=0, help_text="Fences off late results.")
    failures = models.PositiveIntegerField(default=0, help_text="Attempts lost by our own fault.")
    false_starts = models.PositiveIntegerField(
        default=0, help_text="Claims whose worker was lost before the code had begun."
    )
    charged_seconds = models.FloatField(
        default=0, help_text="What the claim has put on its account's share."
    )
    worker = models.CharField(max_length=255, default="")
    lease_expires_at = models.DateTimeField(null=True)
    queued_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    state = models.CharField(max_length=9, choices=_choices(State), default=State.TODO)
    error_code = models.CharField(max_length=20, null=True)
    log_messages = models.TextField(default="")
    train_time = models.FloatField(null=True)
    validation_time = models.FloatField(null=True)
    test_time = models.FloatField(null=True)
    train_cpu_time = models.FloatField(null=True)
    test_cpu_time = models.FloatField(null=True)
    train_memory = models.FloatField(null=True, help_text="Peak, in units of 1024 bytes.")
    test_memory = models.FloatField(null=True, help_text="Peak, in units of 1024 bytes.")
    measured_by = models.CharField(max_length=100, null=True)
    split_digest = models.CharField(max_length=64, default="")
    code_digest = models.CharField(max_length=64, default="")
    new = models.BooleanField(default=True)
    predictions_bytes = models.BigIntegerField(default=0, db_default=0)
    counted_on = models.DateField(
        null=True, help_text="The day whose use it counts in; empty once that was refunded."
    )
    request_id = models.CharField(
        max_length=64,
        blank=True,
        default="",
        db_default="",
        help_text="Of the request that posted it, in the logs of web server and workers.",
    )
    # The clock's value at the last change that clients see; null only within a transaction.
    change_seq = models.BigIntegerField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["owner", "databoard_sf_id"], name="fold_id_of_owner"),
        ]
        indexes = [
            models.Index(
                # One probe finds the first fold of an account on a dataset (scheduling/queue.py).
                fields=["priority", "owner", "raw_data", "rank", "id"],
                name="fold_queue",
                condition=Q(phase="waiting"),
            ),
            models.Index(
                # As many rows as slots: the lease that is over is found among them, too.
                fields=["owner", "lease_expires_at"],
                name="fold_running",
                condition=Q(phase="running"),
            ),
            models.Index(
                fields=["owner", "state", "finished_at", "id"],
                name="fold_new",
                condition=Q(new=True, phase="done"),
            ),
            models.Index(
                # All that the light list shows: the rows themselves, with their logs and indices,
                # are not read for it.
                fields=["owner", "id", "databoard_sf_id", "submission", "state", "new"],
                name="fold_pages",
            ),
            models.Index(
                # How many wait of each dataset, and since when: for metrics, in this index alone.
                fields=["raw_data", "priority", "queued_at"],
                name="fold_waits",
                condition=Q(phase="waiting"),
            ),
            models.Index(fields=["owner", "change_seq", "id"], name="fold_changes"),
            models.Index(fields=["change_seq", "id"], name="fold_all_changes"),
            models.Index(
                # What an account's predictions take is summed up without a look at the rows.
                fields=["owner", "predictions_bytes"],
                name="fold_stored",
                condition=Q(predictions_bytes__gt=0),
            ),
            # What operators look at, in the order of their lists.
            models.Index(fields=["raw_data", "id"], name="fold_of_dataset"),
            models.Index(fields=["raw_data", "state", "id"], name="fold_states_of_dataset"),
            models.Index(fields=["state", "id"], name="fold_states"),
            models.Index(fields=["queued_at", "id"], name="fold_queued"),
            models.Index(
                fields=["finished_at", "id", "state"],
                name="fold_finished",
                condition=Q(finished_at__isnull=False),
            ),
            models.Index(
                fields=["error_code", "id"],
                name="fold_errors",
                condition=Q(error_code__isnull=False),
            ),
            models.Index(fields=["id"], name="fold_high", condition=Q(priority="H")),
            *(
                models.Index(measure, "id", name=f"fold_{name}", condition=is_measured(column))
                for name, (column, measure) in MEASURES.items()
            ),
            # With this class PostgreSQL finds by it what begins with a text.
            models.Index(fields=["worker"], name="fold_workers", opclasses=["varchar_pattern_ops"]),
        ]

    def __str__(self) -> str:
        return f"fold {self.databoard_sf_id}"

    @property
    def databoard_s(self) -> Submission:
        """Its submission, as the source document names it."""
        return self.submission

    @databoard_s.setter
    def databoard_s(self, submission: Submission) -> None:
        self.submission = submission


Folds = models.QuerySet[SubmissionFold]


def keep_phase(folds: Folds, phase: Phase) -> Folds:
    """Keep the folds of one phase, as their partial indexes find them."""
    # The phase stands in the text: only then is a partial index used.
    return folds.filter(phase=RawSQL(f"'{phase}'", ()))  # noqa: S611


class FoldAttempt(models.Model):
    """What became of one attempt at a fold; kept when the fold is run again.

    The row is made when the submission's code begins to run; a claim that never came so far
    leaves none.
    """

    fold = models.ForeignKey(SubmissionFold, models.CASCADE, related_name="attempts")
    number = models.PositiveIntegerField()
    worker = models.CharField(max_length=255)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    outcome = models.CharField(
        max_length=20,
        default="",
        help_text="tested, an error code, or why it ended; empty while it runs.",
    )
    refused = models.PositiveIntegerField(
        default=0, help_text="Writes that came when the fold was no longer this attempt's."
    )
    usage = models.JSONField(default=dict)
    code_digest = models.CharField(max_length=64, default="")
    split_digest = models.CharField(max_length=64, default="")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["fold", "number"], name="attempt_number_of_fold"),
        ]

    def __str__(self) -> str:
        return f"attempt {self.number}: {self.outcome}"


class Predictions(models.Model):
    """The predictions of a fold on one part: float64 bytes, C order, apart from the fold's row."""

    class Part(models.TextChoices):
        FULL_TRAIN = "full_train"
        TEST = "test"

    fold = models.ForeignKey(SubmissionFold, models.CASCADE, related_name="predictions")
    part = models.CharField(max_length=10, choices=Part)
    shape = models.JSONField()
    digest = models.CharField(max_length=64)
    # Small ones lie in the row, large ones in the dataset's bin.
    data = models.BinaryField(null=True)

    class Meta:
        verbose_name_plural = "predictions"
        constraints = [
            models.UniqueConstraint(fields=["fold", "part"], name="predictions_part_of_fold"),
        ]

    def __str__(self) -> str:
        return f"{self.part} predictions"
