"""Finds folds of all accounts for an operator, who types what he remembers of them.

What cannot be meant, such as a state that does not exist, finds nothing, and a hint says why.

Whatever is combined, few folds that fit are found as quickly among many: first by their keys, in no
order, so that the database may use the index that knows them best.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Q, QuerySet
from django.db.models.expressions import RawSQL
from django.db.models.functions import Now, Substr
from django.db.models.lookups import Exact

from runapp.common.error_codes import ERROR_CODES
from runapp.common.transitions import Phase, State
from runapp.models import MAX_CLIENT_ID, RawData, SubmissionFold, Worker, keep_phase

STATES = [str(state) for state in State]
PHASES = [str(phase) for phase in Phase]
PRIORITIES = list(SubmissionFold.Priority.values)
# So many keys are looked up; where more folds fit, a list in order meets enough of them soon.
FEW = 1000
_LAST_LETTER = chr(0x10FFFF)
_MOST_DIGITS = len(str(MAX_CLIENT_ID))
# SQLite refuses to look for the beginning of a name that is very much longer.
_MOST_LETTERS = 255
_AGE = re.compile(r"(\d{1,6})([smhd]?)", re.ASCII)
# Older than this is nothing, and further back databases have no moments.
_LONGEST = timedelta(days=100_000)
_UNITS = {"": "seconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True)
class Search:
    """What an operator knows of the folds; "" is nothing.

    Parameters
    ----------
    state : str, optional
        A state as clients see it, or a phase.
    dataset : str, optional
        Its id, or its name, which several accounts may have given.
    submission : str, optional
        Its id as its client gave it, which several accounts may have.
    worker : str, optional
        What the name of the slot that ran it begins with.
    older_than : str, optional
        How long ago it was posted, as `90s`, `30m`, `2h` or `1d`.
    """

    state: str = ""
    error_code: str = ""
    dataset: str = ""
    submission: str = ""
    owner: str = ""
    priority: str = ""
    worker: str = ""
    older_than: str = ""

    def find(self) -> QuerySet[SubmissionFold]:
        """Return the folds that fit, the newest first; looks up the keys of few in one query."""
        if any(self._explain_words()):
            return SubmissionFold.objects.none()
        if self == Search():
            return SubmissionFold.objects.order_by("-pk")
        rows = self._filter(_begins)
        keys = list(rows.order_by().values_list("pk", flat=True)[: FEW + 1])
        if len(keys) <= FEW:
            return rows.filter(pk__in=keys)
        return self._filter(_begins_unindexed)

    def _filter(self, begins: Callable[[str], Q]) -> QuerySet[SubmissionFold]:
        rows = SubmissionFold.objects.filter(self._make_condition(begins)).order_by("-pk")
        if self.state in PHASES:
            rows = keep_phase(rows, Phase(self.state))
        age = _parse_age(self.older_than)
        return rows if age is None else rows.filter(queued_at__lt=Now() - age)

    def explain(self) -> list[str]:
        """Say what of it cannot be meant, a sentence each."""
        return [*self._explain_words(), *self._explain_names()]

    def _make_condition(self, begins: Callable[[str], Q]) -> Q:
        condition = Q()
        if self.state in STATES:
            condition &= Q(state=self.state)
        if self.error_code:
            condition &= Q(error_code=self.error_code)
        if self.dataset:
            condition &= Q(raw_data__in=self._find_datasets())
        if self.submission:
            condition &= Q(submission__databoard_s_id=int(self.submission))
        if self.owner:
            condition &= Q(owner__username=self.owner)
        if self.priority:
            # In the text: only then is the index of those of high priority used.
            condition &= Q(priority=RawSQL(f"'{self.priority}'", ()))  # noqa: S611
        if self.worker:
            condition &= begins(self.worker)
        return condition

    def _find_datasets(self) -> QuerySet[RawData]:
        condition = Q(name=self.dataset)
        if _is_id(self.dataset):
            condition |= Q(pk=int(self.dataset))
        return RawData.objects.filter(condition)

    def _explain_words(self) -> Iterator[str]:
        for name, value, known in (
            ("state", self.state, [*STATES, *PHASES]),
            ("error code", self.error_code, ERROR_CODES),
            ("priority", self.priority, PRIORITIES),
        ):
            if value and value not in known:
                yield f'"{value}" is not a valid {name} (use one of: {", ".join(known)}).'
        if self.submission and not _is_id(self.submission):
            yield f'"{self.submission}" is not a valid submission id (use a number).'
        for name, value in (("dataset", self.dataset), ("owner", self.owner)):
            if "\0" in value:
                yield f"No {name} can have that name."
        if not _may_be_worker(self.worker):
            yield "No worker can have that name."
        if self.older_than and _parse_age(self.older_than) is None:
            yield f'"{self.older_than}" is not a valid age (use 30s, 5m, 2h, 1d).'

    def _explain_names(self) -> Iterator[str]:
        # PostgreSQL refuses to look for a NUL.
        if "\0" in f"{self.dataset}{self.owner}" or not _may_be_worker(self.worker):
            return
        if self.dataset and not self._find_datasets().exists():
            yield f'There is no dataset with the name or id "{self.dataset}".'
        if self.owner and not User.objects.filter(username=self.owner).exists():
            yield f'There is no account "{self.owner}".'
        if self.worker and not self._is_worker_known():
            yield (
                f'No worker\'s name begins with "{self.worker}", and no such worker has run a fold.'
            )

    def _is_worker_known(self) -> bool:
        # A slot's name begins with its worker's, so either may be what was typed.
        workers = Worker.objects.filter(name__startswith=self.worker.partition("/")[0])
        slots = SubmissionFold.objects.filter(_begins(self.worker))
        return workers.values("pk").union(slots.values("pk"), all=True).exists()


def _begins(worker: str) -> Q:
    """Return the condition that a slot's name begins so, as the index of them serves it."""
    if connection.vendor == "postgresql":
        return Q(worker__startswith=worker)
    # LIKE is blind to capitals here, and uses no index.
    return Q(worker__gte=worker, worker__lt=f"{worker}{_LAST_LETTER}")


def _begins_unindexed(worker: str) -> Q:
    """Return the same for a list in order, which SQLite else makes by sorting all that it finds."""
    return Q(Exact(Substr("worker", 1, len(worker)), worker))


def _may_be_worker(name: str) -> bool:
    return "\0" not in name and len(name) <= _MOST_LETTERS


def _is_id(text: str) -> bool:
    is_number = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
    return is_number and int(text) <= MAX_CLIENT_ID


def _parse_age(text: str) -> timedelta | None:
    found = _AGE.fullmatch(text.strip())
    return None if found is None else min(timedelta(**{_UNITS[found[2]]: int(found[1])}), _LONGEST)
