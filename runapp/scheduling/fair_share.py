"""Fair share: what each account has lately used of the slots.

A claim puts the expected running time on its account's share at once, so that ten slots that
become free together do not all go to one account; the end puts the true time in its place. The
time is halved every hour, as Slurm's fair share does with `PriorityDecayHalfLife`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import Case, F, When
from django.db.models.functions import Greatest, Now

from runapp.models import FairShare, SubmissionFold
from runapp.scheduling.queue import FIRST_EXPECTED_SECONDS

HALF_LIFE_SECONDS = 3600.0
# How much the latest fold counts in the expectation (an exponential moving average).
_LATEST_WEIGHT = 0.2
_DECAY_EVERY = timedelta(minutes=1)
# Less is nobody's advantage.
_NEGLIGIBLE_SECONDS = 0.001


def charge(*, owner_id: int, seconds: float) -> None:
    """Put the time that a fold is expected to take on its account's share.

    In the transaction of a claim, which is one at a time: nobody else makes the row meanwhile.
    """
    # What is negligible is not decayed, so the moment up to which it was is a long time ago.
    is_negligible = When(seconds__lte=_NEGLIGIBLE_SECONDS, then=Now())
    charged = FairShare.objects.filter(owner_id=owner_id).update(
        seconds=F("seconds") + seconds, counted_at=Case(is_negligible, default=F("counted_at"))
    )
    if not charged:
        FairShare.objects.create(
            owner_id=owner_id,
            seconds=seconds,
            expected_seconds=FIRST_EXPECTED_SECONDS,
            counted_at=Now(),
        )


def settle(
    *,
    fold: SubmissionFold,
    used_seconds: float,
    held_seconds: float | None = None,
    is_typical: bool = False,
) -> None:
    """Put the time that a claim has really taken in the place of what was charged for it.

    Parameters
    ----------
    fold : SubmissionFold
        As it was claimed.
    used_seconds : float
        0 when the attempt was lost by our own fault: that costs the account nothing.
    held_seconds : float or None, optional
        How long ago the claim was; None if that is the time used. What was charged has decayed
        since.
    is_typical : bool, optional
        Whether the fold came to an end of its own, which tells how long such folds take.
    """
    age = used_seconds if held_seconds is None else held_seconds
    difference = used_seconds - fold.charged_seconds * _count_decay(age)
    changes: dict[str, Any] = {"seconds": Greatest(F("seconds") + difference, 0.0)}
    if is_typical:
        kept = F("expected_seconds") * (1 - _LATEST_WEIGHT)
        changes["expected_seconds"] = kept + used_seconds * _LATEST_WEIGHT
    FairShare.objects.filter(owner_id=fold.owner_id).update(**changes)


def decay_shares() -> None:
    """Let recent running time count less the longer ago it is; any process may call it.

    Row by row, and only if nobody else has done it meanwhile: no row is decayed twice.
    """
    due = FairShare.objects.filter(
        counted_at__lt=Now() - _DECAY_EVERY, seconds__gt=_NEGLIGIBLE_SECONDS
    )
    for share in due.annotate(now=Now()):
        decay = _count_decay((share.now - share.counted_at).total_seconds())
        FairShare.objects.filter(pk=share.pk, counted_at=share.counted_at).update(
            seconds=F("seconds") * decay, counted_at=share.now
        )


def _count_decay(seconds: float) -> float:
    return float(0.5 ** (max(seconds, 0.0) / HALF_LIFE_SECONDS))
