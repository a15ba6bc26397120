"""rawdata/: limits, their defaults and maxima."""

from __future__ import annotations

from typing import Any

import pytest

from runapp.models import RawData
from tests.factories import (
    make_account,
    make_client,
    make_raw_data,
    make_raw_data_body,
)

pytestmark = pytest.mark.django_db

PATH = "/runapp/rawdata/"
DEFAULTS = {
    "wall_seconds": 600,
    "cpu_seconds": 600,
    "memory_mb": 2048,
    "processes": 64,
    "scratch_mb": 256,
    "output_kb": 256,
}
MAXIMA = {
    "wall_seconds": 86_400,
    "cpu_seconds": 86_400,
    "processes": 512,
    "scratch_mb": 4096,
    "output_kb": 4096,
}


def test_post_answers_given_limits_among_the_defaults() -> None:
    client = make_client(make_account())

    body = make_raw_data_body(limits={"wall_seconds": 1.5, "processes": 3, "memory_mb": None})
    response = client.post(PATH, body)

    assert response.json()["limits"] == {**DEFAULTS, "wall_seconds": 1.5, "processes": 3}


@pytest.mark.parametrize(("name", "most"), list(MAXIMA.items()))
def test_limits_may_be_the_maximum_and_not_more(name: str, most: int) -> None:
    client = make_client(make_account())

    accepted = client.post(PATH, make_raw_data_body(limits={name: most}))
    refused = client.post(PATH, make_raw_data_body(name="other", limits={name: most + 1}))

    assert accepted.status_code == 201
    assert accepted.json()["limits"][name] == most
    assert refused.status_code == 400
    assert refused.json()["limits"] == [f"{name} is {most + 1}; the maximum is {most}."]


def test_memory_over_the_maximum_names_it_in_full(settings: Any) -> None:
    settings.MAX_LIMITS = {**settings.MAX_LIMITS, "memory_mb": 1_234_567}
    client = make_client(make_account())

    response = client.post(PATH, make_raw_data_body(limits={"memory_mb": 1_234_568}))

    message = "memory_mb is 1234568; the maximum is 1234567."
    assert response.json()["limits"] == [message]
    assert response.json()["errors"] == [
        {"field": "limits", "code": "over_maximum", "message": message}
    ]


@pytest.mark.parametrize(
    "limits",
    [
        None,
        [],
        "600",
        {"wall_seconds": 0},
        {"wall_seconds": -1},
        {"wall_seconds": "60"},
        {"wall_seconds": True},
        {"wall_seconds": []},
        {"wall_seconds": 1e308},
        {"processes": 1.5},
        {"memory_mb": 18446744073709551615},
        {"gpus": 1},
        {"": 1},
        {"x" * 10_000: 1},
    ],
)
def test_limits_refused(limits: Any) -> None:
    account = make_account()
    raw_data = make_raw_data(account, name="other")
    client = make_client(account)

    posted = client.post(PATH, make_raw_data_body(limits=limits))
    patched = client.patch(f"{PATH}{raw_data.pk}/", {"limits": limits})

    assert posted.status_code == patched.status_code == 400
    assert posted.json()["errors"][0]["field"] == patched.json()["errors"][0]["field"] == "limits"
    assert len(posted.content) < 1000
    assert RawData.objects.count() == 1


def test_patch_changes_the_limits_named() -> None:
    account = make_account()
    raw_data = make_raw_data(account, limits={"wall_seconds": 60, "processes": 3})
    client = make_client(account)

    response = client.patch(
        f"{PATH}{raw_data.pk}/", {"limits": {"wall_seconds": None, "memory_mb": 512}}
    )

    assert response.status_code == 200
    assert response.json()["limits"] == {**DEFAULTS, "processes": 3, "memory_mb": 512}
    assert client.get(f"{PATH}{raw_data.pk}/").json() == response.json()


@pytest.mark.parametrize("body", [{}, {"name": "other"}, [], None])
def test_patch_without_limits_is_refused(body: Any) -> None:
    account = make_account()
    raw_data = make_raw_data(account)

    response = make_client(account).patch(f"{PATH}{raw_data.pk}/", body)

    assert response.status_code == 400
