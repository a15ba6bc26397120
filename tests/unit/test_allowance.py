"""What is left of a quota, when it resets, and how a refusal tells of it."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from runapp.allowance import Allowance, Ask, Measure, Standing, Use
from runapp.exceptions import QuotaExceeded

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ONE_FOLD = Ask(raw_data_id=7, folds=1, waiting_folds=1)


def make_standing(use: Use | None = None, now: datetime = NOON, **limits: int) -> Standing:
    allowance = Allowance(now, {Measure(name): limit for name, limit in limits.items()})
    return Standing(allowance, use or Use())


@pytest.mark.parametrize(
    ("now", "day", "seconds"),
    [
        (datetime(2026, 3, 1, tzinfo=UTC), date(2026, 3, 1), 86_400),
        (NOON, date(2026, 3, 1), 43_200),
        (datetime(2026, 3, 1, 23, 59, 59, 999_999, tzinfo=UTC), date(2026, 3, 1), 1),
        (datetime(2026, 12, 31, 23, 0, tzinfo=UTC), date(2026, 12, 31), 3600),
    ],
)
def test_day_ends_at_midnight(now: datetime, day: date, seconds: int) -> None:
    allowance = Allowance(now, {})

    assert (allowance.day, allowance.seconds_left) == (day, seconds)
    assert (allowance.resets_at - now).total_seconds() <= seconds


def test_without_limits_anything_may_be_taken() -> None:
    standing = make_standing().take(Ask(raw_data_id=7, folds=10**9, submissions=5, n_bytes=10**15))

    assert standing.use.folds == 10**9
    assert standing.make_fields(*Measure) == {}


@pytest.mark.parametrize(
    ("limits", "ask", "retry_after"),
    [
        ({"folds_per_day": 2}, ONE_FOLD, 43_200),
        ({"waiting_folds": 2}, ONE_FOLD, 60),
        ({"submissions_per_day": 2}, Ask(raw_data_id=7, submissions=1), 43_200),
        ({"stored_bytes": 200}, Ask(raw_data_id=7, n_bytes=100), 3600),
    ],
)
def test_last_that_fits_is_taken_and_one_more_refused(
    limits: dict[str, int], ask: Ask, retry_after: int
) -> None:
    full = make_standing(**limits).take(ask).take(ask)

    with pytest.raises(QuotaExceeded) as caught:
        full.take(ask)

    assert caught.value.retry_after_seconds == retry_after
    assert str(limits[next(iter(limits))]) in caught.value.message


def test_submissions_to_another_dataset_are_counted_apart() -> None:
    standing = make_standing(submissions_per_day=1).take(Ask(raw_data_id=7, submissions=1))

    standing = standing.take(Ask(raw_data_id=8, submissions=1))

    assert standing.use.submissions == {7: 1, 8: 1}
    with pytest.raises(QuotaExceeded):
        standing.take(Ask(raw_data_id=8, submissions=1))


def test_fold_is_refused_where_more_is_stored_than_may_be() -> None:
    standing = make_standing(Use(n_bytes=101), stored_bytes=100)

    with pytest.raises(QuotaExceeded, match="stored bytes to 101; the quota is 100"):
        standing.take(ONE_FOLD)


def test_dataset_is_not_measured_by_the_quotas_of_folds() -> None:
    standing = make_standing(Use(folds=9, waiting_folds=9), folds_per_day=0, waiting_folds=0)

    assert standing.take(Ask(raw_data_id=0, n_bytes=5)).use.n_bytes == 5


def test_nothing_is_taken_where_the_quota_is_nothing() -> None:
    with pytest.raises(QuotaExceeded, match="folds to 1; the quota is 0"):
        make_standing(folds_per_day=0).take(ONE_FOLD)


def test_what_has_been_counted_is_checked_as_it_is() -> None:
    make_standing(Use(folds=2), folds_per_day=2).check(ONE_FOLD)
    with pytest.raises(QuotaExceeded):
        make_standing(Use(folds=3), folds_per_day=2).check(ONE_FOLD)


def test_fields_tell_each_policy_and_what_is_left() -> None:
    standing = make_standing(
        Use(folds=50, waiting_folds=3, submissions={7: 1}, n_bytes=2**20),
        folds_per_day=200,
        waiting_folds=2,
        submissions_per_day=5,
        stored_bytes=10 * 2**20,
    )

    fields = standing.make_fields(*Measure, raw_data_id=7)

    assert fields == {
        "RateLimit-Policy": '"folds-per-day";q=200;w=86400, "submissions-per-day";q=5;w=86400, '
        '"waiting-folds";q=2, "stored-bytes";q=10485760;qu="content-bytes"',
        "RateLimit": '"folds-per-day";r=150;t=43200, "submissions-per-day";r=4;t=43200, '
        '"waiting-folds";r=0, "stored-bytes";r=9437184',
    }


def test_numbers_stay_within_what_a_field_may_hold() -> None:
    fields = make_standing(stored_bytes=2**31 * 2**20).make_fields(Measure.STORED_BYTES)

    assert "q=999999999999999;" in fields["RateLimit-Policy"]
    assert fields["RateLimit"] == '"stored-bytes";r=999999999999999'


def test_refusal_says_the_quota_the_use_and_the_reset() -> None:
    with pytest.raises(QuotaExceeded) as caught:
        make_standing(Use(folds=200), folds_per_day=200).take(ONE_FOLD)

    assert caught.value.message == (
        "This would bring today's folds to 201; the quota is 200. "
        "It resets at 2026-03-02T00:00:00Z."
    )
    assert caught.value.headers == {
        "RateLimit-Policy": '"folds-per-day";q=200;w=86400',
        "RateLimit": '"folds-per-day";r=0;t=43200',
    }
