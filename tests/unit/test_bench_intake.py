"""The parts of `bench.intake` that measure nothing: bodies and aims."""

from __future__ import annotations

import pytest

from bench.intake.bodies import FOLDS_OF_SUBMISSION, N_INDICES, N_ROWS, Bodies
from bench.intake.posting import Bulk
from bench.intake.report import Report, make_aims
from test_files import post_api


def test_files_come_with_the_first_fold_of_a_submission_only() -> None:
    first, second = Bodies(7).make_submissions(2 * FOLDS_OF_SUBMISSION)

    assert [set(body) >= {"raw_data", "files"} for body in first] == [True, *[False] * 4]
    assert first[0]["files"] != second[0]["files"]
    ids = [body["databoard_sf_id"] for body in (*first, *second)]
    assert len(set(ids)) == len(ids)


def test_rows_of_a_posted_fold_are_in_the_train_part() -> None:
    ((body, *_),) = Bodies(7).make_submissions(FOLDS_OF_SUBMISSION)

    rows = post_api.decode_indices(body["train_is"])

    assert len(set(rows.tolist())) == N_INDICES
    assert rows.max() < N_ROWS


@pytest.mark.parametrize(("busy", "verdict"), [(0.02, "met"), (0.04, "missed")])
def test_posts_that_are_held_up_miss_their_aim(busy: float, verdict: str) -> None:
    bulk = Bulk(n_folds=2_000, seconds=1, growth_bytes=0)
    report = Report("sqlite", [100], [bulk], [[0.01] * 9], [[busy] * 9], bulk)

    assert [row[-1] for row in make_aims(report)] == ["met", verdict]
