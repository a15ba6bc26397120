"""Fills a database with folds that a poller asks for; run as a process of its own.

`python -m bench.polling.fill --folds N` migrates the database of `DATABASE_URL`, makes an account
with so many folds, of which some wait, most were handed out and a hundred have new predictions, and
prints the account's token.
"""

from __future__ import annotations

import argparse
import os
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import django
import numpy as np
from django.core.management import call_command
from django.db import connection

N_NEW = 100
PREDICTIONS_SHAPE = (1_000, 10)
INDICES_BYTES = 3_000
_FOLDS_OF_SUBMISSION = 10
_BATCH = 2_000
_N_INDICES = 100  # that are unlike each other
_FIRST_END = datetime(2026, 1, 1, tzinfo=UTC)


def main() -> None:
    """Fill the database and print the token."""
    arguments = _read_arguments()
    django.setup()
    call_command("migrate", interactive=False, verbosity=0)
    print(fill(n_folds=arguments.folds))


def fill(*, n_folds: int) -> str:
    """Make an account with folds; return its token."""
    from django.contrib.auth.models import User

    from runapp.accounts.tokens import create_token
    from runapp.models import Clock, RawData

    owner = User.objects.create(username="poller")
    dataset = RawData.objects.create(
        owner=owner,
        name="data",
        target_column="y",
        workflow_elements="classifier",
        files={},
        state=RawData.State.READY,
        change_seq=1,
    )
    _make_folds(dataset, n_folds)
    Clock.objects.update(value=n_folds + 1)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    return create_token(account=owner)[1]


def _make_folds(dataset: Any, n_folds: int) -> None:
    from runapp.models import Predictions, Submission, SubmissionFold

    submissions = Submission.objects.bulk_create(
        Submission(
            owner=dataset.owner, raw_data=dataset, databoard_s_id=number, files={}, hash_files=""
        )
        for number in range(-(-n_folds // _FOLDS_OF_SUBMISSION))
    )
    first_new = n_folds - N_NEW
    for start in range(0, n_folds, _BATCH):
        numbers = range(start, min(start + _BATCH, n_folds))
        folds = SubmissionFold.objects.bulk_create(
            SubmissionFold(
                owner=dataset.owner,
                submission=submissions[number // _FOLDS_OF_SUBMISSION],
                raw_data=dataset,
                **_make_values(number, is_new=number >= first_new),
            )
            for number in numbers
        )
        new = [fold for fold in folds if fold.new and fold.phase == "done"]
        Predictions.objects.bulk_create(_make_predictions(dataset, new))


def _make_values(number: int, *, is_new: bool) -> dict[str, Any]:
    values = {
        "databoard_sf_id": number,
        "rank": number % _FOLDS_OF_SUBMISSION,
        "train_is": _make_indices(number % _N_INDICES),
        "test_is": _make_indices((number + 1) % _N_INDICES),
        "queued_at": _FIRST_END,
        # As they come by and by: a transaction for each.
        "change_seq": number + 2,
    }
    if not is_new and number % 10 == 0:
        return values
    return values | {
        "phase": "done",
        "state": "TESTED",
        "new": is_new,
        "attempt": 1,
        "finished_at": _FIRST_END + timedelta(seconds=number),
        "log_messages": "fitted\n",
        **dict.fromkeys(("train_time", "validation_time", "test_time"), 0.5),
        **dict.fromkeys(("train_cpu_time", "test_cpu_time"), 0.25),
        **dict.fromkeys(("train_memory", "test_memory"), 150_000.0),
    }


@cache
def _make_indices(number: int) -> bytes:
    """Return indices whose packed form is about as long as is wanted."""
    # Nothing here unpacks them; random bytes are as long packed as they are.
    return zlib.compress(np.random.default_rng(number).bytes(INDICES_BYTES))


def _make_predictions(dataset: Any, folds: list[Any]) -> Iterator[Any]:
    from runapp.models import Predictions
    from runapp.scheduling.results import store_predictions
    from runapp.storage.blobs import stay

    for fold in folds:
        random = np.random.default_rng(fold.databoard_sf_id)
        for part in Predictions.Part.values:
            values = random.dirichlet(np.ones(PREDICTIONS_SHAPE[1]), PREDICTIONS_SHAPE[0])
            row = store_predictions(values, part=part, bin=dataset.bin, pulse=stay)
            row.fold = fold
            yield row


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folds", type=int, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "datarun.settings")
    main()
