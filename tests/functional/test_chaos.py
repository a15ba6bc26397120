"""Everything is killed, stopped and restarted while folds train: each still ends exactly once.

The seed stands at the head of pytest's report; DATARUN_CHAOS_SEED gives it. It decides what befalls
whom in which order, and what the client does; the moments are the machine's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from random import Random

import pytest

from tests.effort import CHAOS_SEED, FACTOR
from tests.functional.account import Account
from tests.functional.chaos import plagues, verdict
from tests.functional.chaos.client import CODE, TRAIN_IS, Client
from tests.functional.chaos.site import (
    CHAOS,
    Site,
    embedded,
    production,
)
from tests.functional.instances import Instance, private_postgres, private_rabbitmq
from tests.functional.service import list_below, wait_until
from tests.functional.tables import to_seconds

RAGE_SECONDS = 15.0 * FACTOR
LEAST_KILLED = 8
# Beyond the lease: to notice, to claim, and to start a child.
RECOVERY_SECONDS = 5.0
# Long enough that a worker which was killed is there again, where it is the only one.
RECOVERY = {**CHAOS, "DATARUN_LEASE_SECONDS": "12"}
PROFILES = ["embedded", pytest.param("production", marks=pytest.mark.service)]

pytestmark = pytest.mark.timeout(300 + 2 * RAGE_SECONDS)

OpenSite = Callable[[Mapping[str, str]], AbstractContextManager[Site]]


@pytest.fixture(scope="module")
def broker() -> Iterator[Instance]:
    """A RabbitMQ of the module's own."""
    with private_rabbitmq() as broker:
        yield broker


@pytest.fixture(params=PROFILES)
def open_site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenSite]:
    """What starts the service of a profile; twice, it is the same one again."""
    if request.param == "embedded":
        yield partial(embedded, tmp_path)
        return
    broker = request.getfixturevalue("broker")
    with private_postgres() as postgres:
        yield partial(production, tmp_path, servers={"postgres": postgres, "broker": broker})


def test_every_fold_ends_once_whatever_dies(open_site: OpenSite) -> None:
    with open_site(CHAOS) as site:
        client = Client(site.make_account("chaos"), Random(f"{CHAOS_SEED} client"))
        client.prepare()
        calm = client.train_calmly()

        rage_through(site, client)

        client.settle()
        rows = client.read_rows(client.wishes)
        outcomes = verdict.count_outcomes(site)
        print(f"{len(rows)} folds; answers: {dict(client.statuses)}; attempts: {outcomes}")
        verdict.assert_ended_as_wished(client.wishes.values(), rows, calm)
        verdict.assert_tables_agree(site)
        assert client.statuses[500] == 0
        # A plague that finds nobody does nothing; so many have found somebody.
        assert site.n_killed >= LEAST_KILLED
    # Groups and folders of what was killed go when a worker starts.
    with open_site(CHAOS) as again:
        again.wait_until_workers_are_ready()
        again.look_around()
    again.seen |= site.seen
    verdict.assert_nothing_left(again)


def rage_through(site: Site, client: Client) -> None:
    """Let the client work while everything happens; what fails in either ends both."""
    print(f"DATARUN_CHAOS_SEED={CHAOS_SEED}")
    with ThreadPoolExecutor(max_workers=1) as pool:
        working = pool.submit(client.work)
        working.add_done_callback(lambda _: client.stopping.set())
        try:
            told = plagues.rage(
                site,
                Random(f"{CHAOS_SEED} plagues"),
                seconds=RAGE_SECONDS,
                stopping=client.stopping,
            )
            print("\n".join(told))
        finally:
            client.stopping.set()
        working.result()


def test_fold_of_a_killed_worker_runs_again_in_time(open_site: OpenSite) -> None:
    with open_site(RECOVERY) as site:
        site.wait_until_workers_are_ready()
        account = site.make_account("recovery")
        client = Client(account, Random(0))
        client.prepare()
        fold_id = post_slow(account, client.raw_data_id)
        row = account.wait_until_running(fold_id)
        time_of_kill = kill_holder(site, fold_id)

        again = account.wait_until_running(fold_id, attempt=2)

        assert row["attempt"] == 1
        delay = read_start(site, fold_id) - time_of_kill
        lease = float(RECOVERY["DATARUN_LEASE_SECONDS"])
        assert delay <= lease + RECOVERY_SECONDS, f"it took {delay:.1f} s"
        assert again["attempt"] == 2
        rows = account.wait_for_folds([fold_id])
        assert rows[fold_id]["state"] == "TESTED"


def post_slow(account: Account, raw_data_id: int) -> int:
    return account.post_code(
        raw_data_id, CODE.format(number=0, fit=2, predict=0), train_is=TRAIN_IS
    )


def kill_holder(site: Site, fold_id: int) -> float:
    """Kill the whole tree of the worker that runs a fold; return when."""
    [(name,)] = site.read(
        f"select worker from runapp_submissionfold where databoard_sf_id = {fold_id}"
    )
    pid = int(name.rpartition("/")[2])
    [holder] = [w for w in site.find_workers() if pid in {p.pid for p in list_below(w)}]
    tree = [holder, *list_below(holder)]
    moment = time.time()
    for process in tree:
        plagues.kill(site, process)
    wait_until(lambda: not any(p.is_running() for p in tree), what="the worker is dead")
    return moment


def read_start(site: Site, fold_id: int) -> float:
    [(moment,)] = site.read(
        f"select started_at from runapp_submissionfold where databoard_sf_id = {fold_id}"
    )
    return to_seconds(moment)
