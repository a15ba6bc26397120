"""What an account may have and do, what it has and has done, and what is left of it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Any, NoReturn

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import BigIntegerField, Count, F, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce, Now

from runapp.exceptions import NotFound, QuotaExceeded
from runapp.models import DailyUse, RawData, Submission, SubmissionFold, keep_phase
from runapp.transitions import Phase

_MB = 2**20
_DAY_SECONDS = 86_400
# The largest whole number of a structured field (RFC 9651, section 3.3.1).
_MOST_IN_FIELD = 10**15 - 1


class Measure(StrEnum):
    """What a quota bounds."""

    FOLDS_PER_DAY = "folds_per_day"
    SUBMISSIONS_PER_DAY = "submissions_per_day"
    WAITING_FOLDS = "waiting_folds"
    STORED_BYTES = "stored_bytes"

    @property
    def is_daily(self) -> bool:
        return self in (Measure.FOLDS_PER_DAY, Measure.SUBMISSIONS_PER_DAY)

    @property
    def policy(self) -> str:
        """Its name in the RateLimit fields."""
        return f'"{self.replace("_", "-")}"'


# When it is worth trying again where nothing resets: waiting folds are run, files deleted.
_RETRY_SECONDS = {Measure.WAITING_FOLDS: 60, Measure.STORED_BYTES: 3600}
_SENTENCES = {
    Measure.FOLDS_PER_DAY: "This would bring today's folds to {used}; the quota is {limit}.",
    Measure.SUBMISSIONS_PER_DAY: (
        "This would bring today's submissions to this dataset to {used}; the quota is {limit}."
    ),
    Measure.WAITING_FOLDS: (
        "This would bring the waiting folds to {used}; the quota is {limit}. "
        "Wait until some have run, or cancel some."
    ),
    Measure.STORED_BYTES: (
        "This would bring the stored bytes to {used}; the quota is {limit}. "
        "Delete a dataset to make room."
    ),
}


@dataclass(frozen=True)
class Ask:
    """What a post on a dataset asks for.

    Parameters
    ----------
    raw_data_id : int
        The dataset; 0 for one that is new.
    folds, waiting_folds, submissions : int
        How many more there would be, counted in this day or waiting.
    n_bytes : int
        How many more would be stored.
    """

    raw_data_id: int
    folds: int = 0
    waiting_folds: int = 0
    submissions: int = 0
    n_bytes: int = 0


@dataclass(frozen=True)
class Use:
    """What an account has, and has done today.

    Parameters
    ----------
    submissions : mapping of int to int
        Dataset -> how many; those without any are not named.
    """

    folds: int = 0
    waiting_folds: int = 0
    submissions: Mapping[int, int] = field(default_factory=dict)
    n_bytes: int = 0

    def add(self, ask: Ask) -> Use:
        """Return what it would be with what is asked for."""
        submissions = self.submissions
        if ask.submissions:
            before = submissions.get(ask.raw_data_id, 0)
            submissions = {**submissions, ask.raw_data_id: before + ask.submissions}
        return Use(
            folds=self.folds + ask.folds,
            waiting_folds=self.waiting_folds + ask.waiting_folds,
            submissions=submissions,
            n_bytes=self.n_bytes + ask.n_bytes,
        )

    def get(self, measure: Measure, *, raw_data_id: int) -> int:
        """Return one of the figures; of submissions, those to the dataset."""
        if measure is Measure.SUBMISSIONS_PER_DAY:
            return self.submissions.get(raw_data_id, 0)
        return {
            Measure.FOLDS_PER_DAY: self.folds,
            Measure.WAITING_FOLDS: self.waiting_folds,
            Measure.STORED_BYTES: self.n_bytes,
        }[measure]


@dataclass(frozen=True)
class Allowance:
    """What an account may have and do.

    Parameters
    ----------
    now : datetime
        By the database's clock, in UTC: it says which day it is.
    limits : mapping of Measure to int
        Those in force.
    """

    now: datetime
    limits: Mapping[Measure, int]

    @property
    def day(self) -> date:
        return self.now.date()

    @property
    def resets_at(self) -> datetime:
        """When the counts of the day begin anew."""
        return datetime.combine(self.day + timedelta(days=1), time(), UTC)

    @property
    def seconds_left(self) -> int:
        """How many seconds until then, at least 1."""
        return math.ceil((self.resets_at - self.now).total_seconds())


@dataclass(frozen=True)
class Standing:
    """What an account may have and do, beside what it has and has done."""

    allowance: Allowance
    use: Use

    def take(self, ask: Ask) -> Standing:
        """Return the standing with what is asked for.

        Raises
        ------
        QuotaExceeded
            When it goes over a quota.
        """
        after = replace(self, use=self.use.add(ask))
        for measure in _list_asked(ask):
            if after.count_left(measure, raw_data_id=ask.raw_data_id) < 0:
                self._refuse(measure, ask.raw_data_id, after.use)
        return after

    def check(self, ask: Ask) -> None:
        """Check what was asked for, and is in the use already.

        Raises
        ------
        QuotaExceeded
            When it has gone over a quota.
        """
        for measure in _list_asked(ask):
            if self.count_left(measure, raw_data_id=ask.raw_data_id) < 0:
                self._refuse(measure, ask.raw_data_id, self.use)

    def count_left(self, measure: Measure, *, raw_data_id: int) -> float:
        """Return how much is left, which is less than nothing beyond the quota."""
        limit = self.allowance.limits.get(measure, math.inf)
        return limit - self.use.get(measure, raw_data_id=raw_data_id)

    def make_fields(self, *measures: Measure, raw_data_id: int = 0) -> dict[str, str]:
        """Return the RateLimit fields that tell of those of the measures that are limited.

        Notes
        -----
        As in draft-ietf-httpapi-ratelimit-headers-10.
        """
        told = [measure for measure in measures if measure in self.allowance.limits]
        if not told:
            return {}
        left = (self._tell_left(measure, raw_data_id) for measure in told)
        policies = (self._tell_policy(measure) for measure in told)
        return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(left)}

    def _tell_policy(self, measure: Measure) -> str:
        limit = min(self.allowance.limits[measure], _MOST_IN_FIELD)
        unit = ';qu="content-bytes"' if measure is Measure.STORED_BYTES else ""
        window = f";w={_DAY_SECONDS}" if measure.is_daily else ""
        return f"{measure.policy};q={limit}{unit}{window}"

    def _tell_left(self, measure: Measure, raw_data_id: int) -> str:
        left = max(int(self.count_left(measure, raw_data_id=raw_data_id)), 0)
        reset = f";t={self.allowance.seconds_left}" if measure.is_daily else ""
        return f"{measure.policy};r={min(left, _MOST_IN_FIELD)}{reset}"

    def _refuse(self, measure: Measure, raw_data_id: int, after: Use) -> NoReturn:
        used = after.get(measure, raw_data_id=raw_data_id)
        sentence = _SENTENCES[measure].format(used=used, limit=self.allowance.limits[measure])
        if measure.is_daily:
            sentence += f" It resets at {self.allowance.resets_at:%Y-%m-%dT%H:%M:%SZ}."
        raise QuotaExceeded(
            sentence,
            retry_after_seconds=_RETRY_SECONDS.get(measure, self.allowance.seconds_left),
            headers=self.make_fields(measure, raw_data_id=raw_data_id),
        )


def _list_asked(ask: Ask) -> Iterator[Measure]:
    """Yield what a post is checked for: a fold makes predictions, which are stored, too."""
    if ask.submissions:
        yield Measure.SUBMISSIONS_PER_DAY
    if ask.folds:
        yield Measure.FOLDS_PER_DAY
        yield Measure.WAITING_FOLDS
    yield Measure.STORED_BYTES


def read_allowance(*, owner: User) -> Allowance:
    """Return what an account may have and do, by its own quota or the settings'; in one query.

    Raises
    ------
    NotFound
        When the account is no more.
    """
    own = {f"own_{name}": F(f"quota__{name}") for name in settings.QUOTAS}
    row = User.objects.filter(pk=owner.pk).annotate(now=Now(), **own).values("now", *own).first()
    if row is None:
        raise NotFound("This account has just been deleted.")
    if owner.is_superuser:
        return Allowance(row["now"], {})
    found = {
        name: limit if row[f"own_{name}"] is None else row[f"own_{name}"]
        for name, limit in settings.QUOTAS.items()
    }
    return Allowance(row["now"], dict(_list_limits(found)))


def _list_limits(found: Mapping[str, int | None]) -> Iterator[tuple[Measure, int]]:
    for name, limit in found.items():
        if limit is None:
            continue
        if name == "stored_mb":
            yield Measure.STORED_BYTES, limit * _MB
        else:
            yield Measure(name), limit


def read_standing(
    *, owner: User, allowance: Allowance, measures: Collection[Measure] | None = None
) -> Standing:
    """Return an account's use beside its limits.

    Parameters
    ----------
    measures : collection of Measure, optional
        What to look at; by default what is limited, and nothing is asked where nothing is.
    """
    wanted = set(allowance.limits if measures is None else measures)
    use = Use()
    if wanted & {Measure.FOLDS_PER_DAY, Measure.SUBMISSIONS_PER_DAY}:
        use = _read_day(owner, allowance.day)
    if wanted & {Measure.WAITING_FOLDS, Measure.STORED_BYTES}:
        waiting_folds, n_bytes = _read_totals(owner, wanted)
        use = replace(use, waiting_folds=waiting_folds, n_bytes=n_bytes)
    return Standing(allowance, use)


def _read_day(owner: User, day: date) -> Use:
    rows = DailyUse.objects.filter(owner=owner, day=day)
    found = list(rows.values_list("raw_data_id", "folds", "submissions"))
    submissions = {raw_data_id: count for raw_data_id, _, count in found if count}
    return Use(folds=sum(count for _, count, _ in found), submissions=submissions)


def _read_totals(owner: User, wanted: Collection[Measure]) -> tuple[int, int]:
    """Count what waits and sum up what is stored, as far as wanted; in one query."""
    totals: dict[str, Any] = {}
    if Measure.WAITING_FOLDS in wanted:
        # The priorities are named, as the index of what waits begins with them.
        waiting = keep_phase(
            SubmissionFold.objects.filter(priority__in=SubmissionFold.Priority.values),
            Phase.WAITING,
        )
        totals["waiting_folds"] = _total(waiting, owner, Count("pk"))
    if Measure.STORED_BYTES in wanted:
        folds = SubmissionFold.objects.filter(predictions_bytes__gt=0)
        totals["n_bytes"] = (
            _total(RawData.objects.all(), owner, Sum("n_bytes"))
            + _total(Submission.objects.all(), owner, Sum("n_bytes"))
            + _total(folds, owner, Sum("predictions_bytes"))
        )
    found = User.objects.filter(pk=owner.pk).annotate(**totals).values(*totals).first() or {}
    return int(found.get("waiting_folds", 0)), int(found.get("n_bytes", 0))


def _total(rows: QuerySet[Any], owner: User, aggregate: Count | Sum) -> Coalesce:
    """Return a figure of an account's rows, as a part of a query."""
    groups = rows.filter(owner=owner).order_by().values("owner").annotate(total=aggregate)
    return Coalesce(Subquery(groups.values("total")), 0, output_field=BigIntegerField())
