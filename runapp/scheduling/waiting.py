"""Why folds wait, and how many do."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import (
    Count,
    Exists,
    F,
    Min,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    TextField,
    Value,
)
from django.db.models.functions import Cast, Coalesce, Now

from runapp.accounts.access import Scope
from runapp.accounts.visible_rows import find_single
from runapp.common.transitions import Phase
from runapp.models import Clock, FairShare, RawData, SubmissionFold, keep_phase
from runapp.scheduling.live_workers import list_live_workers
from runapp.scheduling.queue import get_cap


@dataclass(frozen=True)
class Circumstances:
    """What folds may wait for, beside their dataset and their turn.

    Parameters
    ----------
    has_worker, has_fit_worker : bool
        Whether a worker lives, and one that takes work or may yet find that it does.
    full_accounts, disabled_accounts : frozenset of int
        The keys of the accounts that may not run one fold more, or none at all.
    raw_data_seq : int
        The number of the latest change of any dataset.
    """

    has_worker: bool
    has_fit_worker: bool
    full_accounts: frozenset[int]
    disabled_accounts: frozenset[int]
    raw_data_seq: int

    def explain_waiting(
        self, *, phase: str, raw_data_state: str, is_paused: bool, owner_id: int
    ) -> str | None:
        """Tell why a fold waits, None for one that does not."""
        if phase != Phase.WAITING:
            return None
        if owner_id in self.disabled_accounts:
            return "account_disabled"
        if raw_data_state != RawData.State.READY:
            return "raw_data_not_split"
        if is_paused:
            return "paused"
        if not self.has_worker:
            return "no_live_worker"
        if not self.has_fit_worker:
            return "no_fit_worker"
        return "account_cap" if owner_id in self.full_accounts else "behind_others"


def read_circumstances(*, scope: Scope) -> Circumstances:
    """Return what the folds that an account sees may wait for now."""
    whose = find_single(scope, None)
    annotations = annotate_circumstances(whose)
    return make_circumstances(Clock.objects.annotate(**annotations).values(*annotations)[0], whose)


def list_numbers(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Return the number of the latest change of some rows, as a query."""
    seen = rows.filter(change_seq__isnull=False)
    return seen.order_by("-change_seq").values("change_seq")[:1]


def annotate_circumstances(owner: User | None) -> dict[str, Any]:
    live = list_live_workers().annotate(kept=Cast("promises", TextField()))
    names = (Q(kept__contains=f'"{name}"') for name in settings.REQUIRED_PROMISES)
    keeps_all = reduce(and_, names, Q(promises__isnull=False))
    fit = live.filter(keeps_all | Q(promises__isnull=True))
    running = SubmissionFold.objects.filter(phase=Phase.RUNNING, owner=owner).order_by()
    counts = running.values("owner").annotate(n=Count("pk"))
    shares = FairShare.objects.filter(owner=owner)
    return {
        "has_worker": Exists(live),
        "has_fit_worker": Exists(fit),
        "n_running": Coalesce(Subquery(counts.values("n")), 0),
        "cap": Coalesce(Subquery(shares.values("cap")), get_cap()),
        # Of all, as folds may wait for another account's.
        "raw_data_seq": Coalesce(Subquery(list_numbers(RawData.objects.all())), 0),
    }


def make_circumstances(row: dict[str, Any], owner: User | None) -> Circumstances:
    if owner is None:
        full, disabled = find_held_up_accounts()
    else:
        full = frozenset({owner.pk} if row["n_running"] >= row["cap"] else ())
        disabled = frozenset(() if owner.is_active else {owner.pk})
    return Circumstances(
        row["has_worker"], row["has_fit_worker"], full, disabled, row["raw_data_seq"]
    )


def find_held_up_accounts() -> tuple[frozenset[int], frozenset[int]]:
    """Return the keys of the accounts that may not run one fold more, and of disabled ones.

    Of the latter those that have something waiting; in one query.
    """
    running = SubmissionFold.objects.filter(phase=Phase.RUNNING).order_by()
    counts = running.values("owner").annotate(
        n=Count("pk"), most=Coalesce("owner__fair_share__cap", get_cap())
    )
    full = counts.filter(n__gte=F("most")).values_list("owner", Value(False))
    stopped = FairShare.objects.filter(cap=0).values_list("owner", Value(False))
    waiting = SubmissionFold.objects.filter(
        phase=Phase.WAITING, priority__in=SubmissionFold.Priority, owner=OuterRef("pk")
    )
    disabled = User.objects.filter(Exists(waiting), is_active=False)
    rows = full.union(stopped, disabled.values_list("pk", Value(True)))
    return (
        frozenset(key for key, is_disabled in rows if not is_disabled),
        frozenset(key for key, is_disabled in rows if is_disabled),
    )


@dataclass(frozen=True)
class Waiting:
    """The waiting folds of one dataset at one priority, and for how long the oldest waits."""

    raw_data_id: int
    priority: str
    count: int
    oldest_seconds: float


def list_waiting() -> list[Waiting]:
    """Return how many folds wait, and for how long, by dataset and priority.

    One query, answered by the index `fold_waits` alone.
    """
    waiting = keep_phase(SubmissionFold.objects.all(), Phase.WAITING)
    groups = waiting.order_by().values("raw_data_id", "priority")
    rows = groups.annotate(count=Count("*"), oldest=Min("queued_at"), now=Now())
    return [
        Waiting(
            row["raw_data_id"],
            row["priority"],
            row["count"],
            (row["now"] - row["oldest"]).total_seconds(),
        )
        for row in rows
    ]
