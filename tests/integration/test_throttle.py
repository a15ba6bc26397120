"""Requests of an account beyond those of a minute are refused."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from django.db import OperationalError
from django.http.response import HttpResponseBase

from datarun.environment import read_cache
from runapp.datasets import raw_data as services
from runapp.http import throttles
from tests.factories import make_account, make_client, make_raw_data_body
from tests.functional import profiles

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

PATH = "/runapp/submissionfold-light/"


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.service)], autouse=True)
def counting(
    request: pytest.FixtureRequest, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three requests a minute, in a window that lasts; counted in memory or in Redis."""
    settings.REQUESTS_PER_MINUTE = 3
    monkeypatch.setattr(throttles, "find_window", lambda now: (7, 42))
    monkeypatch.setattr(throttles, "COUNTER", throttles.Counter())
    if request.param == "redis":
        profiles.need_redis()
        monkeypatch.setenv("DATARUN_CACHE_URL", profiles.REDIS)
    # What another test has counted is nothing to this one.
    settings.CACHES = {"default": {**read_cache(), "KEY_PREFIX": secrets.token_hex(8)}}


def ask(client: Any, times: int) -> list[int]:
    return [client.get(PATH).status_code for _ in range(times)]


def test_requests_beyond_the_limit_are_refused() -> None:
    client = make_client(make_account())

    statuses = ask(client, 3)
    refused: HttpResponseBase = client.get(PATH)

    assert statuses == [200] * 3
    assert refused.status_code == 429
    assert refused["Retry-After"] == "42"
    assert refused["RateLimit-Policy"] == '"requests";q=3;w=60'
    assert refused["RateLimit"] == '"requests";r=0;t=42'
    (error,) = refused.json()["errors"]
    assert (error["field"], error["code"]) == (None, "throttled")
    assert (
        error["message"]
        == refused.json()["detail"]
        == ("An account may make at most 3 requests per minute; try again in 42 seconds.")
    )


def test_next_window_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    client = make_client(make_account())
    ask(client, 4)
    monkeypatch.setattr(throttles, "find_window", lambda now: (8, 60))

    assert ask(client, 1) == [200]


def test_accounts_are_counted_apart() -> None:
    ada, bob = make_client(make_account("ada")), make_client(make_account("bob"))
    ask(ada, 4)

    assert ask(bob, 3) == [200] * 3


def test_every_endpoint_counts() -> None:
    client = make_client(make_account())
    ask(client, 2)

    statuses = [client.post("/runapp/testpredictions/new/", {}).status_code for _ in range(2)]

    assert statuses == [200, 429]


def test_nobody_is_asked_who_they_are_before_they_are_counted() -> None:
    assert ask(make_client(), 5) == [401] * 5


def test_zero_is_any_number(settings: Any) -> None:
    settings.REQUESTS_PER_MINUTE = 0

    assert ask(make_client(make_account()), 10) == [200] * 10


def test_request_that_is_tried_once_more_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    client = make_client(make_account())
    ask(client, 2)
    create, tries = services.create_raw_data, []

    def create_at_second_try(**values: Any) -> Any:
        tries.append(values)
        if len(tries) == 1:
            raise OperationalError("database is locked")
        return create(**values)

    monkeypatch.setattr(services, "create_raw_data", create_at_second_try)

    response = client.post("/runapp/rawdata/", make_raw_data_body())

    assert (response.status_code, len(tries)) == (201, 2)


def test_held_request_counts_once() -> None:
    client = make_client(make_account())
    ask(client, 2)

    held = client.get(f"{PATH}?updated_since=0", headers={"Prefer": "wait=1"})

    assert held.status_code == 200
    assert held["Preference-Applied"] == "wait=1"
