"""Changes folds of a service as its workers and clients would, only faster.

    change SECONDS SEED    move folds to and fro
    finish                 end all folds, with predictions
    clean                  delete all datasets

The environment names the database of the service.
"""

from __future__ import annotations

import random
import sys
import time
from typing import Any

import numpy as np
from django.db import OperationalError
from django.db.models.functions import Now

from runapp.changes import feed
from runapp.changes.feed import publishing
from runapp.common.exceptions import Conflict
from runapp.common.transitions import Phase, State
from runapp.models import Predictions, RawData, SubmissionFold
from runapp.scheduling.control import cancel_fold, change_priority
from runapp.scheduling.results import store_predictions
from runapp.scheduling.state_changes import NEVER_TRIED, move

# How often a transaction is held between its number and its commit, and for how long.
HELD_SHARE, HELD_SECONDS = 0.05, 0.003
SHAPE = (400, 5)


def hold_some(chance: random.Random) -> None:
    """Widen the moment in which a reader could be misled."""
    number = feed._number

    def number_and_hold(touched: Any) -> None:
        number(touched)
        if chance.random() < HELD_SHARE:
            time.sleep(HELD_SECONDS)

    feed._number = number_and_hold


def change(*, seconds: float, seed: int) -> int:
    """Move folds to and fro for some seconds; return how often."""
    chance = random.Random(seed)
    hold_some(chance)
    keys = list(SubmissionFold.objects.values_list("pk", flat=True))
    deadline, n_changes = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        fold = SubmissionFold.objects.get(pk=chance.choice(keys))
        try:
            chance.choice((cancel, prioritise, repeat, repeat_some))(fold, chance)
        except (Conflict, OperationalError):
            continue  # another one was there first
        n_changes += 1
    return n_changes


def cancel(fold: SubmissionFold, chance: random.Random) -> None:
    cancel_fold(fold=fold)


def prioritise(fold: SubmissionFold, chance: random.Random) -> None:
    change_priority(fold=fold, priority=chance.choice("HL"))


def repeat(fold: SubmissionFold, chance: random.Random) -> None:
    with publishing():
        again = {"phase": Phase.WAITING, "state": State.TODO, **NEVER_TRIED}
        move(SubmissionFold.objects.filter(pk=fold.pk), **again)


def repeat_some(fold: SubmissionFold, chance: random.Random) -> None:
    """Change several folds at once, under one number."""
    with publishing():
        again = {"phase": Phase.WAITING, "state": State.TODO, **NEVER_TRIED}
        rows = SubmissionFold.objects.filter(submission=fold.submission_id)
        # In the order in which everybody locks.
        keys = list(
            rows.select_for_update().order_by("owner_id", "pk").values_list("pk", flat=True)
        )
        move(SubmissionFold.objects.filter(pk__in=keys), **again)


def finish() -> int:
    """End all folds as if they had been tested; return how many there are."""
    values = np.random.default_rng(0).random(SHAPE)
    raw_data = RawData.objects.get()
    made = [
        store_predictions(values, part=part, bin=raw_data.bin, pulse=lambda: None)
        for part in Predictions.Part.values
    ]
    keys = list(SubmissionFold.objects.order_by("pk").values_list("pk", flat=True))
    rows = [
        Predictions(fold_id=key, part=row.part, shape=row.shape, digest=row.digest, data=row.data)
        for key in keys
        for row in made
    ]
    with publishing():
        feed.touch(
            SubmissionFold.objects.all(),
            phase=Phase.DONE,
            state=State.TESTED,
            new=True,
            finished_at=Now(),
        )
        Predictions.objects.all().delete()
        Predictions.objects.bulk_create(rows, batch_size=200)
    return len(keys)


def main(arguments: list[str]) -> None:
    match arguments:
        case ["change", seconds, seed]:
            print(change(seconds=float(seconds), seed=int(seed)))
        case ["finish"]:
            print(finish())
        case ["clean"]:
            print(RawData.objects.all().delete()[0])
        case _:
            sys.exit(__doc__)
