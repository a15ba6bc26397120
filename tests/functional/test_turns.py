"""Whose turn it is, over real HTTP and with real brokers: strict priority and fair share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import pytest

from test_files.examples import IRIS
from tests.functional import profiles
from tests.functional.account import Account, check
from tests.functional.service import Service, serving

ROWS = np.arange(100)
SLOW = """\
import time
import numpy as np


class Classifier:
    def fit(self, X, y):
        time.sleep({seconds})
        self.n_classes = len(set(y))

    def predict_proba(self, X):
        return np.full((len(X), self.n_classes), 1 / self.n_classes)
"""
QUICK = SLOW.format(seconds=0)
N_LOW, N_HIGH = 50, 5
N_MANY, N_FEW = 200, 5

Profile = Callable[[], AbstractContextManager[dict[str, str]]]


def embedded() -> AbstractContextManager[dict[str, str]]:
    return nullcontext({})


@pytest.fixture(scope="module", params=[embedded, profiles.production, profiles.redis])
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service with one slot."""
    profile: Profile = request.param
    with (
        profile() as environment,
        serving(tmp_path_factory.mktemp("turns"), {**environment, "DATARUN_SLOTS": "1"}) as running,
    ):
        yield running


def make_dataset(service: Service, name: str) -> tuple[Account, int]:
    account = service.make_account(name)
    raw_data = account.post_example(IRIS)
    account.wait_for_split(raw_data)
    return account, raw_data


def pause(account: Account, raw_data: int, *, paused: bool) -> None:
    check(account.send("PATCH", f"rawdata/{raw_data}/", {"paused": paused}))


def test_high_priority_starts_next_however_much_waits(service: Service) -> None:
    account, raw_data = make_dataset(service, "priority")
    busy = account.post_code(raw_data, SLOW.format(seconds=8), train_is=ROWS)
    account.wait_until_running(busy)
    low = [account.post_code(raw_data, QUICK, train_is=ROWS) for _ in range(N_LOW)]

    high = [account.post_code(raw_data, QUICK, train_is=ROWS, priority="H") for _ in range(N_HIGH)]

    assert account.read_fold(busy)["state"] == "TODO", "the long fold was too short for this test"
    assert account.read_fold(high[0])["queue_position"] == 1
    assert account.read_fold(low[0])["queue_position"] == N_HIGH + 1
    rows = account.wait_for_folds([busy, *high, *low])
    started = sorted(rows, key=lambda fold_id: rows[fold_id]["started_at"])
    assert started[: 1 + N_HIGH] == [busy, *high]
    assert {row["state"] for row in rows.values()} == {"TESTED"}


def test_few_folds_do_not_wait_for_the_many_of_another(service: Service) -> None:
    many, many_data = make_dataset(service, "many")
    few, few_data = make_dataset(service, "few")
    for account, raw_data in ((many, many_data), (few, few_data)):
        pause(account, raw_data, paused=True)
    ids = [many.post_code(many_data, QUICK, train_is=ROWS) for _ in range(N_MANY)]
    few_ids = [few.post_code(few_data, QUICK, train_is=ROWS) for _ in range(N_FEW)]
    assert many.read_fold(ids[0])["waiting_because"] == "paused"

    for account, raw_data in ((many, many_data), (few, few_data)):
        pause(account, raw_data, paused=False)

    rows = few.wait_for_folds(few_ids)
    last = max(row["started_at"] for row in rows.values())
    begun = [many.read_fold(fold_id)["started_at"] for fold_id in ids[:30]]
    assert sum(moment is not None and moment < last for moment in begun) < 10
    assert many.send("DELETE", f"rawdata/{many_data}/").status_code == 204
