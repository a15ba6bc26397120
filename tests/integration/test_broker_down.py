"""Without a broker, or with one that is silent, a post is as good, and about as fast."""

from __future__ import annotations

import math
import runpy
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from django.conf import settings

from datarun.broker import PatientAMQP
from runapp.models import RawData, SubmissionFold
from runapp.scheduling import dispatch
from runapp.scheduling.claims import claim_fold
from tests.factories import make_account, make_client, make_ready_dataset, post_fold

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]


def fill_backlog(server: socket.socket) -> list[socket.socket]:
    """Connect until the kernel answers no more: it drops what comes, as a firewall does."""
    server.listen(0)
    waiting = []
    for _ in range(4):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(server.getsockname())
        waiting.append(client)
    return waiting


@pytest.fixture(params=["closed", "silent", "dropped"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port that refuses, one that accepts and never says a word, one that swallows packets."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        if request.param == "silent":
            server.listen(50)
        elif request.param == "dropped":
            for client in fill_backlog(server):
                stack.enter_context(client)
        yield server.getsockname()[1]


@pytest.fixture(params=["amqp://guest@127.0.0.1:{port}//", "redis://127.0.0.1:{port}/0"])
def deaf_broker(request: pytest.FixtureRequest, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the settings name a broker that answers nothing, which nothing has noticed yet."""
    monkeypatch.setenv("CELERY_BROKER_URL", request.param.format(port=port))
    named = runpy.run_path(str(settings.BASE_DIR / "datarun" / "settings.py"))
    use_broker(named, monkeypatch)


@pytest.fixture
def refused_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have the settings name a folder of messages that is none."""
    (tmp_path / "broker").touch()
    named = runpy.run_path(str(settings.BASE_DIR / "datarun" / "settings.py"))
    options = named["CELERY_BROKER_TRANSPORT_OPTIONS"]
    named["CELERY_BROKER_TRANSPORT_OPTIONS"] = {
        name: str(tmp_path / "broker" / name) if "folder" in name else value
        for name, value in options.items()
    }
    use_broker(named, monkeypatch)


def use_broker(named: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    app = Celery("without a broker", set_as_current=False, amqp=PatientAMQP)
    app.config_from_object(SimpleNamespace(**named), namespace="CELERY")
    monkeypatch.setattr("datarun.celery.app", app)
    # Until the test begins no hint is tried.
    monkeypatch.setattr(dispatch, "_paused_until", math.inf)


@pytest.mark.usefixtures("deaf_broker")
def test_posts_are_stored_and_answered_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    check_posts(caplog)


@pytest.mark.usefixtures("refused_folder")
def test_posts_need_no_folder_of_messages(caplog: pytest.LogCaptureFixture) -> None:
    check_posts(caplog)


def check_posts(caplog: pytest.LogCaptureFixture) -> None:
    account = make_account()
    monday, tuesday = (make_ready_dataset(account, name=name) for name in ("monday", "tuesday"))
    client = make_client(account)
    split: dict[str, Any] = {"raw_data_id": tuesday.pk, "held_out_test": 0.5}
    dispatch._paused_until = 0.0
    started_at = time.monotonic()

    folds = [post_fold(client, monday, databoard_sf_id=number) for number in range(3)]
    asked = client.post("/runapp/rawdata/split/", split)

    took_seconds = time.monotonic() - started_at
    assert [response.status_code for response in folds] == [201] * 3
    assert asked.status_code == 200
    assert all(response.json()["task_id"] for response in [*folds, asked])
    # One waited a second for a broker that is silent, and no other.
    assert took_seconds < 4
    assert SubmissionFold.objects.count() == 3
    assert RawData.objects.get(pk=tuesday.pk).state == "SPLITTING"
    assert claim_fold(worker="worker-1") is not None
    warnings = [record for record in caplog.records if record.name == "runapp.scheduling.dispatch"]
    assert len(warnings) == 1
