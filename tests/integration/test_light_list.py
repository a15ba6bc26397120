"""submissionfold-light/: what a poller needs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.factories import (
    Outcome,
    finish_fold,
    make_account,
    make_client,
    make_fold,
    make_ready_dataset,
)

pytestmark = pytest.mark.django_db

PATH = "/runapp/submissionfold-light/"


def test_list_shows_four_columns_oldest_first() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    client = make_client(account)
    assert client.get(PATH).json() == []
    finish_fold(account, raw_data, databoard_s_id=4, databoard_sf_id=7)
    finish_fold(account, raw_data, databoard_s_id=4, databoard_sf_id=3, outcome=Outcome.WALL_LIMIT)
    make_fold(account, raw_data, databoard_s_id=5, databoard_sf_id=5)
    client.post("/runapp/testpredictions/list/", {"list_submission_fold": [7]})

    response = client.get(PATH)

    assert response.status_code == 200
    assert response.json() == [
        {"databoard_sf_id": 7, "databoard_s": 4, "state": "TESTED", "new": False},
        {"databoard_sf_id": 3, "databoard_s": 4, "state": "ERROR", "new": True},
        {"databoard_sf_id": 5, "databoard_s": 5, "state": "TODO", "new": True},
    ]


@pytest.mark.parametrize("is_superuser", [False, True])
def test_list_is_two_queries_beside_the_account(
    is_superuser: bool, django_assert_num_queries: Any
) -> None:
    account = make_account(is_superuser=is_superuser)
    raw_data = make_ready_dataset(account)
    for number in range(4):
        make_fold(account, raw_data, databoard_sf_id=number)
    client = make_client(account)
    client.get(PATH)

    # How far the changes have come, and the rows.
    with django_assert_num_queries(3):
        rows = client.get(PATH).json()

    assert len(rows) == 4
