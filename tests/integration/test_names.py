"""Names that people give to datasets and tokens: any script, and nothing that cannot be seen."""

from __future__ import annotations

import html
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from runapp.models import AccessToken, RawData
from tests.factories import (
    PASSWORD,
    make_account,
    make_client,
    make_raw_data,
    make_raw_data_body,
    make_token,
)

pytestmark = pytest.mark.django_db

TEXTS = [
    "مجموعة بيانات",
    "נתונים של 2026",
    "数据集",
    "naïve ☃ 🧪",
    "'; DROP TABLE auth_user; --",
    "1 OR 1=1 /* %s %(x)s */",
    "{{ 7*7 }}{% load x %}${7*7}",
    "<script>alert(1)</script>",
    'a"b\\c',
    "../../etc/passwd",
]
HIDDEN = [
    "\n",
    "\t",
    "\x1b",
    "\x7f",
    "\x85",
    "\u2028",
    "\u2029",
    "\u061c",
    "\u200e",
    "\u200f",
    *map(chr, range(0x202A, 0x202F)),
    *map(chr, range(0x2066, 0x206A)),
]


def show_code(text: str) -> str:
    return ascii(text)


@pytest.mark.parametrize("name", TEXTS, ids=show_code)
def test_text_of_any_kind_is_kept_as_it_is(name: str) -> None:
    client = make_client(make_account())

    dataset = client.post("/runapp/rawdata/", make_raw_data_body(name=name))
    token = client.post("/runapp/tokens/", {"name": name})

    assert (dataset.status_code, token.status_code) == (201, 201)
    assert dataset.json()["name"] == token.json()["name"] == name
    assert client.get("/runapp/rawdata/").json()[0]["name"] == name
    assert client.get("/runapp/tokens/").json()[0]["name"] == name
    assert RawData.objects.get().name == AccessToken.objects.get().name == name


@pytest.mark.parametrize("name", TEXTS, ids=show_code)
def test_admin_site_shows_text_and_runs_none_of_it(name: str) -> None:
    account, root = make_account(), Client()
    root.force_login(User.objects.create_superuser("root", password=PASSWORD))
    make_raw_data(account, name=name)
    make_token(account, name=name)

    for page in ("rawdata", "accesstoken"):
        shown = root.get(f"/admin/runapp/{page}/", {"q": name})

        assert shown.status_code == 200
        assert html.escape(name) in shown.content.decode()
        assert "<script>alert" not in shown.content.decode()


@pytest.mark.parametrize("mark", HIDDEN, ids=show_code)
@pytest.mark.parametrize(
    ("path", "body"),
    [("rawdata/", make_raw_data_body()), ("tokens/", {})],
    ids=["dataset", "token"],
)
def test_what_is_not_shown_is_refused(path: str, body: dict[str, Any], mark: str) -> None:
    client = make_client(make_account())

    response = client.post(f"/runapp/{path}", {**body, "name": f"a{mark}b"})

    assert response.status_code == 400
    (error,) = response.json()["errors"]
    assert (error["field"], error["code"]) == ("name", "control_character")
    assert not RawData.objects.exists()
    assert not AccessToken.objects.exists()
