"""Two hosts with a worker each: one loses its link while it trains, and comes back too late."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from test_files.examples import IRIS
from tests.functional.account import Account, assert_same_bits, read_predictions
from tests.functional.instances import private_postgres, private_rabbitmq
from tests.functional.machine import Installation, installed
from tests.functional.network import Network, private_network
from tests.functional.service import list_below, wait_until
from tests.functional.tables import read_rows

LEASE_SECONDS = 4
ENVIRONMENT = {
    "DATARUN_SLOTS": "1",
    "DATARUN_LEASE_SECONDS": str(LEASE_SECONDS),
    "DATARUN_HEARTBEAT_SECONDS": "1",
}
# The one that is cut off goes on for longer than its lease, and ends while the other still runs.
FIT_SECONDS = LEASE_SECONDS + 4
TRAIN_IS = range(60)
NAMES = ("east", "west")

# Holds a process of its own while it fits.
CODE = """
import subprocess
import time

from sklearn.ensemble import RandomForestClassifier


class Classifier:
    def fit(self, X, y):
        child = subprocess.Popen(["sleep", "1000"])
        self.model = RandomForestClassifier(n_estimators=3, random_state=0).fit(X, y)
        time.sleep({seconds})
        child.kill()
        child.wait()

    def predict_proba(self, X):
        return self.model.predict_proba(X)
"""

pytestmark = [pytest.mark.service, pytest.mark.timeout(300)]


@pytest.fixture
def network() -> Iterator[Network]:
    with private_network(n_hosts=len(NAMES)) as network:
        yield network


@pytest.fixture
def database(network: Network) -> Iterator[str]:
    with private_postgres(host=network.address) as postgres:
        yield postgres.url


@pytest.fixture
def site(network: Network, database: str, tmp_path: Path) -> Iterator[Installation]:
    """A web server beside the database and the broker, and a worker on each host."""
    with private_rabbitmq(host=network.address) as broker:
        urls = {"DATABASE_URL": database, "CELERY_BROKER_URL": broker.url}
        with installed(tmp_path, {**urls, **ENVIRONMENT}, host=network.address) as site:
            site.start_web()
            for name, host in zip(NAMES, network.hosts, strict=True):
                site.start_worker(name, prefix=host.prefix)
            yield site


def test_late_result_of_a_host_that_was_cut_off_is_refused(
    site: Installation, network: Network, database: str
) -> None:
    hosts = dict(zip(NAMES, network.hosts, strict=True))
    account = site.make_account("two-hosts")
    raw_data_id = account.post_example(IRIS)
    account.wait_for_split(raw_data_id)
    calm = account.wait_for_fold(post(account, raw_data_id))
    wait_until(lambda: count_ready(database) == len(NAMES), what="both workers are ready")
    fold_id = post(account, raw_data_id, seconds=FIT_SECONDS)
    first = wait_until(lambda: find_trainer(site), what="the fold trains")
    assert first is not None
    before = site.machines[first].find_part()

    hosts[first].cut()
    account.wait_until_running(fold_id, attempt=2)
    wait_until(lambda: not is_training(site, first), what="the run that was cut off has ended")
    hosts[first].mend()

    row = account.wait_for_fold(fold_id)
    assert_same_bits(row, read_predictions(calm))
    wait_until(
        lambda: all(outcome for _, _, outcome in list_attempts(database, fold_id)),
        what="both attempts have ended",
    )
    wait_until(lambda: count_refused(database, fold_id), what="the late result is refused")
    [other] = set(NAMES) - {first}
    lost, won = list_attempts(database, fold_id)
    assert lost == (1, first, "lost")
    assert won == (2, other, "tested")
    assert row["attempt"] == 2
    assert count_predictions(database, fold_id) == 2
    wait_until(
        lambda: first in {train(account, database, raw_data_id) for _ in NAMES},
        what="the worker that was cut off takes folds again",
    )
    assert site.machines[first].find_part() == before, "it was started again"


def post(account: Account, raw_data_id: int, *, seconds: float = 0) -> int:
    return account.post_code(raw_data_id, CODE.format(seconds=seconds), train_is=TRAIN_IS)


def train(account: Account, database: str, raw_data_id: int) -> str:
    """Keep one worker busy and train a fold; return who trained it."""
    busy, fold_id = [post(account, raw_data_id, seconds=1) for _ in NAMES]
    rows = account.wait_for_folds([busy, fold_id])
    assert {row["state"] for row in rows.values()} == {"TESTED"}
    return list_attempts(database, fold_id)[-1][1]


def find_trainer(site: Installation) -> str | None:
    return next((name for name in NAMES if is_training(site, name)), None)


def is_training(site: Installation, name: str) -> bool:
    """Tell whether a fold of the worker holds its own process."""
    worker = site.machines[name].find_part()
    return worker is not None and any(map(_sleeps, list_below(worker)))


def _sleeps(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.cmdline() == ["sleep", "1000"]
    return False


def count_ready(database: str) -> int:
    query = "select count(*) from runapp_worker where promises is not null"
    [(number,)] = read_rows(database, query)
    return int(number)


def list_attempts(database: str, fold_id: int) -> list[tuple[int, str, str]]:
    """Return number, worker and outcome of each attempt at a fold."""
    query = (
        "select a.number, a.worker, a.outcome from runapp_foldattempt a"
        " join runapp_submissionfold f on f.id = a.fold_id"
        f" where f.databoard_sf_id = {fold_id} order by a.number"
    )
    # A slot is named <worker>@<host>/<process>.
    return [
        (number, name.partition("@")[0], outcome)
        for number, name, outcome in read_rows(database, query)
    ]


def count_refused(database: str, fold_id: int) -> int:
    """Return how many writes of the first attempt at a fold came too late."""
    query = (
        "select a.refused from runapp_foldattempt a"
        " join runapp_submissionfold f on f.id = a.fold_id"
        f" where f.databoard_sf_id = {fold_id} and a.number = 1"
    )
    [(number,)] = read_rows(database, query)
    return int(number)


def count_predictions(database: str, fold_id: int) -> int:
    query = (
        "select count(*) from runapp_predictions p"
        " join runapp_submissionfold f on f.id = p.fold_id"
        f" where f.databoard_sf_id = {fold_id}"
    )
    [(number,)] = read_rows(database, query)
    return int(number)
