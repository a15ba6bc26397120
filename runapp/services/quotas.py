"""Counts what accounts post against their quotas, gives back what is refunded, sets quotas.

The row of an account's quota is the lock: whoever posts takes it once the rows are written, and
only then counts. So of two posts at once the second counts the first, and neither goes over. Where
nothing is limited, nothing is locked: the day's counts are raised by one statement, which is exact
by itself, so that a limit that is set at noon knows of the morning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection, models, transaction
from django.db.models import Count, F

from runapp.allowance import Allowance, Ask, read_standing
from runapp.events import Action
from runapp.exceptions import InvalidInput
from runapp.models import DailyUse, Quota, SubmissionFold
from runapp.services import audit

MOST = 2**31 - 1


def check_room(*, owner: User, allowance: Allowance, ask: Ask) -> None:
    """Refuse what cannot fit before anything is written; the count decides (`count_use`).

    Raises
    ------
    QuotaExceeded
        When it would go over a quota.
    """
    if allowance.limits:
        read_standing(owner=owner, allowance=allowance).take(ask)


def count_use(*, owner: User, allowance: Allowance, asks: Sequence[Ask]) -> None:
    """Count what was posted, in the transaction that has written it and after all of its rows.

    Raises
    ------
    QuotaExceeded
        When it has gone over a quota: the transaction must not be committed.
    """
    if allowance.limits:
        _lock(owner)
    _raise_counts(owner, allowance.day, [ask for ask in asks if ask.folds or ask.submissions])
    if allowance.limits:
        standing = read_standing(owner=owner, allowance=allowance)
        for ask in asks:
            standing.check(ask)


def refund_folds(*, folds: models.QuerySet[SubmissionFold]) -> None:
    """Take folds off the counts of the days in which they were counted, each once.

    In the transaction that has changed them, and so holds their locks, after the shares.
    """
    counted = folds.filter(counted_on__isnull=False)
    groups = counted.values_list("owner_id", "raw_data_id", "counted_on").annotate(n=Count("pk"))
    # In the order in which posts lock the counts, too.
    found = list(groups.order_by("owner_id", "raw_data_id", "counted_on"))
    if not found:
        return
    counted.update(counted_on=None)
    for owner_id, raw_data_id, day, n_folds in found:
        assert day is not None  # these were counted
        rows = DailyUse.objects.filter(owner_id=owner_id, raw_data_id=raw_data_id, day=day)
        rows.update(folds=F("folds") - n_folds)


def set_quota(*, account: User, changes: Mapping[str, int | None]) -> Quota:
    """Set some of an account's limits; all changes of quotas come by here.

    Parameters
    ----------
    account : User
        Whose.
    changes : mapping of str to int or None
        Names as in `settings.QUOTAS`; 0 is nothing at all, None goes back to the setting.

    Raises
    ------
    InvalidInput
        When there is no such limit, or it is negative or too large.
    """
    for name, limit in changes.items():
        if name not in settings.QUOTAS:
            raise InvalidInput(f"There is no quota named {name}.", field=name, code="unknown")
        if limit is not None and not 0 <= limit <= MOST:
            raise InvalidInput(f"A quota must be between 0 and {MOST}.", field=name)
    with transaction.atomic():
        quota = _lock(account)
        new = {name: limit for name, limit in changes.items() if getattr(quota, name) != limit}
        for name, limit in new.items():
            setattr(quota, name, limit)
        quota.save(update_fields=list(new))
        if new:
            audit.record(action=Action.QUOTA_CHANGED, of=quota, facts=new)
    return quota


def _lock(account: User) -> Quota:
    """Return an account's quota, locked to the end of the transaction; it is made if need be."""
    rows = Quota.objects.select_for_update(no_key=True).filter(account=account)
    found: Quota | None = rows.first()
    if found is None:
        # Another may make it at the same time: then its row is waited for, and locked.
        Quota.objects.bulk_create([Quota(account=account)], ignore_conflicts=True)
        found = rows.get()
    return found


def _raise_counts(owner: User, day: date, asks: Sequence[Ask]) -> None:
    if not asks:
        return
    ordered = sorted(asks, key=lambda ask: ask.raw_data_id)
    on_day = connection.ops.adapt_datefield_value(day)
    places = ", ".join(["(%s, %s, %s, %s, %s)"] * len(ordered))
    values = [
        value
        for ask in ordered
        for value in (owner.pk, ask.raw_data_id, on_day, ask.folds, ask.submissions)
    ]
    with connection.cursor() as cursor:
        # In one statement, which the ORM has no word for.
        cursor.execute(
            f"""
            INSERT INTO runapp_dailyuse AS known (owner_id, raw_data_id, day, folds, submissions)
            VALUES {places} ON CONFLICT (owner_id, day, raw_data_id) DO UPDATE SET
                folds = known.folds + excluded.folds,
                submissions = known.submissions + excluded.submissions
            """,  # noqa: S608 - the places of the values
            values,
        )
