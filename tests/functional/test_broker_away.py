"""A broker whose link is cut: folds wait, the worker says so in plain lines and comes back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from test_files.examples import IRIS
from tests.functional import profiles
from tests.functional.account import Account
from tests.functional.proxy import HOST, Link
from tests.functional.service import Service, serving, wait_until

CLASSIFIER = """
import numpy as np


class Classifier:
    def fit(self, X, y):
        self.n_classes = len(set(y))

    def predict_proba(self, X):
        return np.full((len(X), self.n_classes), 1 / self.n_classes)
"""
DEFAULT_PORTS = {"amqp": 5672, "redis": 6379}
Profile = Callable[[], AbstractContextManager[dict[str, str]]]


@dataclass(frozen=True)
class Linked:
    """A service, and its link to its broker."""

    service: Service
    link: Link


@pytest.fixture(params=[profiles.production, profiles.redis], ids=["rabbitmq", "redis"])
def linked(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Linked]:
    profile: Profile = request.param
    with profile() as environment:
        url = urlsplit(environment["CELERY_BROKER_URL"])
        with Link(url.port or DEFAULT_PORTS[url.scheme]) as link:
            login = url.netloc.rpartition("@")[0]
            near = f"{login}@{HOST}:{link.port}" if login else f"{HOST}:{link.port}"
            through = {"CELERY_BROKER_URL": url._replace(netloc=near).geturl()}
            # The service may show no stack trace: `serving` looks for one at its end.
            with serving(tmp_path, {**environment, **through, "DATARUN_SLOTS": "1"}) as service:
                yield Linked(service, link)


def post_fold(account: Account, raw_data_id: int) -> int:
    return account.post_code(raw_data_id, CLASSIFIER, train_is=range(60))


def test_worker_waits_for_its_broker_and_comes_back(linked: Linked) -> None:
    service, link = linked.service, linked.link
    account = service.make_account("linked")
    raw_data_id = account.post_dataset(
        name="iris", target=IRIS.target, elements=IRIS.elements, files=[IRIS.data_file]
    )
    account.ask_for_split(raw_data_id)
    account.wait_for_split(raw_data_id)
    assert account.wait_for_fold(post_fold(account, raw_data_id))["state"] == "TESTED"

    link.cut()
    wait_until(
        lambda: service.log.count("waiting for the broker") >= 3, what="the worker says it waits"
    )
    waiting = [post_fold(account, raw_data_id) for _ in range(2)]
    assert {account.read_fold(fold_id)["state"] for fold_id in waiting} == {"TODO"}
    link.mend()

    folds = account.wait_for_folds(waiting, seconds=30)
    assert {fold["state"] for fold in folds.values()} == {"TESTED"}
    assert "the broker answers again" in service.log
    told = re.findall(r"waiting for the broker (\S+), next try in ([\d.]+) s", service.log)
    assert all(float(seconds) <= 5 for _, seconds in told)
    assert not any("guest:guest" in url for url, _ in told)
