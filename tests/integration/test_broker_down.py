"""Without a broker a post is as good, and as fast."""

from __future__ import annotations

import math
import runpy
import socket
import time
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from django.conf import settings

from runapp import dispatch
from runapp.models import RawData, SubmissionFold
from runapp.services.claims import claim_fold
from tests.factories import make_account, make_client, make_ready_dataset, post_fold

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(params=["amqp://guest@127.0.0.1:{port}//", "redis://127.0.0.1:{port}/0"])
def closed_broker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the settings name a broker where nothing listens, which nothing has noticed yet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = request.param.format(port=probe.getsockname()[1])
    monkeypatch.setenv("CELERY_BROKER_URL", url)
    named = runpy.run_path(str(settings.BASE_DIR / "datarun" / "settings.py"))
    app = Celery("without a broker", set_as_current=False)
    app.config_from_object(SimpleNamespace(**named), namespace="CELERY")
    monkeypatch.setattr("datarun.celery.app", app)
    # Until the test begins no hint is tried.
    monkeypatch.setattr(dispatch, "_paused_until", math.inf)


@pytest.mark.usefixtures("closed_broker")
def test_posts_are_stored_and_answered_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
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
    assert took_seconds < 2
    assert SubmissionFold.objects.count() == 3
    assert RawData.objects.get(pk=tuesday.pk).state == "SPLITTING"
    assert claim_fold(worker="worker-1") is not None
    # One failure was enough: the other posts did not try.
    warnings = [record for record in caplog.records if record.name == "runapp.dispatch"]
    assert len(warnings) == 1
