"""Workers that are replaced one after another while folds run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from test_files.examples import IRIS
from tests.functional.machine import Installation, installed
from tests.functional.profiles import production
from tests.functional.service import wait_until
from tests.functional.tables import read_rows

pytestmark = pytest.mark.service

# The running ones outlast the grace of the worker that is stopped first.
GRACE_SECONDS, LONG_SECONDS = 1, 4
CODE = """
import time

class Classifier:
    def fit(self, X, y):
        time.sleep({seconds})

    def predict_proba(self, X):
        return X[:, :3]
"""
ATTEMPTS = """
    select f.databoard_sf_id, array_agg(a.outcome order by a.number), min(f.failures)
    from runapp_submissionfold f join runapp_foldattempt a on a.fold_id = f.id
    group by f.databoard_sf_id
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Installation]:
    """A web server on PostgreSQL and RabbitMQ, without a worker."""
    own = {"DATARUN_SLOTS": "1", "DATARUN_SHUTDOWN_GRACE_SECONDS": str(GRACE_SECONDS)}
    with production() as profile, installed(tmp_path, {**profile, **own}) as site:
        site.start_web()
        yield site


def wait_until_ready(site: Installation, *names: str) -> None:
    """Wait until just these workers have tested themselves and not left."""

    def list_ready() -> set[str]:
        query = "select name from runapp_worker where promises is not null"
        rows = read_rows(site.environment["DATABASE_URL"], query)
        return {name.partition("@")[0] for (name,) in rows}

    wait_until(lambda: list_ready() == set(names), what=f"the workers are {names}")


def test_workers_replaced_one_after_another_lose_nothing(site: Installation) -> None:
    account = site.make_account("ada")
    for name in ("a", "b"):
        site.start_worker(name)
    wait_until_ready(site, "a", "b")
    raw_data_id = account.post_example(IRIS)
    account.wait_for_split(raw_data_id)

    def post(*, seconds: int) -> int:
        code = CODE.format(seconds=seconds)
        return account.post_code(raw_data_id, code, train_is=range(60))

    long = [post(seconds=LONG_SECONDS) for _ in range(2)]
    short = [post(seconds=0) for _ in range(4)]
    for fold_id in long:
        account.wait_until_running(fold_id)

    site.machines["a"].stop()
    site.start_worker("c")
    wait_until_ready(site, "b", "c")
    site.machines["b"].stop()
    wait_until_ready(site, "c")

    rows = account.wait_for_folds([*long, *short])
    assert {row["state"] for row in rows.values()} == {"TESTED"}
    found = read_rows(site.environment["DATABASE_URL"], ATTEMPTS)
    assert {failures for _, _, failures in found} == {0}
    attempts = {fold_id: outcomes for fold_id, outcomes, _ in found}
    assert all(outcomes.count("tested") == 1 for outcomes in attempts.values())
    assert ["returned", "tested"] in [attempts[fold_id] for fold_id in long]
