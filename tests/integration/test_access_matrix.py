"""Every endpoint and method as everybody: one table, which fails when an endpoint is missing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone
from knox.models import get_token_model

from runapp.accounts.tokens import create_token
from runapp.datasets.sharing import share_raw_data
from runapp.models import RawData, Share
from tests.factories import (
    PASSWORD,
    JSONClient,
    finish_fold,
    make_account,
    make_client,
    make_fold,
    make_fold_body,
    make_kit,
    make_raw_data_body,
    make_ready_dataset,
    read_rows,
)

pytestmark = pytest.mark.django_db

METHODS = ("get", "post", "put", "patch", "delete")

# Ada's dataset has a finished fold 11 and a waiting fold 12; a second one, shared alike, has a
# module of its own. Behind the status: the number of the rows answered, or the first one's status.
#
# nobody, stranger, reader, submitter, manager, owner, operator, superuser, disabled, expired token
TABLE = """
GET    rawdata/                                401 200/0 200/2 200/2 200/2 200/2 200/2 200/2 401 401
POST   rawdata/                                401 201 201 201 201 201 201 201 401 401
GET    rawdata/{pk}/                           401 404 200 200 200 200 200 200 401 401
PATCH  rawdata/{pk}/ limits                    401 404 403 403 200 200 403 200 401 401
PATCH  rawdata/{pk}/ paused                    401 404 403 403 200 200 200 200 401 401
DELETE rawdata/{pk}/                           401 404 403 403 403 204 403 204 401 401
POST   rawdata/{pk}/folds/                     401 404 200 200 200 200 403 200 401 401
GET    rawdata/{pk}/shares/                    401 404 403 403 200/4 200/4 403 200/4 401 401
POST   rawdata/{pk}/shares/                    401 404 403 403 403 201 403 201 401 401
DELETE rawdata/{pk}/shares/{share}/            401 404 403 403 403 204 403 204 401 401
POST   rawdata/split/                          401 404 403 403 200 200 403 200 401 401
POST   rawdata/customsplit/                    401 404 403 403 200 200 403 200 401 401
POST   raw_data/split/                         401 404 403 403 200 200 403 200 401 401
POST   raw_data/customsplit/                   401 404 403 403 200 200 403 200 401 401
GET    submission/                             401 200/0 200/1 200/0 200/1 200/1 200/1 200/1 401 401
GET    submissionfold/                         401 200/0 200/2 200/0 200/2 200/2 200/2 200/2 401 401
POST   submissionfold/                         401 400 403 201 201 201 403 201 401 401
POST   submissionfold/bulk/   401 200:400 200:403 200:201 200:201 200:201 200:403 200:201 401 401
GET    submissionfold/{sf_id}/                 401 404 200 404 200 200 200 200 401 401
PATCH  submissionfold/{sf_id}/                 401 404 403 404 200 200 200 200 401 401
DELETE submissionfold/{sf_id}/                 401 404 403 404 200 200 200 200 401 401
GET    submissionfold/{tested}/predictions/test/  401 404 200 404 200 200 403 200 401 401
GET    submissionfold-light/                   401 200/0 200/2 200/0 200/2 200/2 200/2 200/2 401 401
POST   testpredictions/list/?owner=ada         401 404 200/1 200/0 200/1 200/1 200/0 200/1 401 401
POST   testpredictions/new/                    401 404 200/0 200/0 200/0 200/1 200/0 200/0 401 401
GET    account/                                401 200 200 200 200 200 200 200 401 401
GET    account/?owner=ada                      401 404 403 403 403 200 200 200 401 401
POST   account/password/                       401 204 204 204 204 204 204 204 401 401
GET    audit/                                  401 403 403 403 403 403 200 200 401 401
GET    tokens/                                 401 200 200 200 200 200 200 200 401 401
GET    tokens/?owner=ada                       401 404 403 403 403 200 403 200 401 401
POST   tokens/                                 401 201 201 201 201 201 201 201 401 401
POST   tokens/?owner=ada                       401 404 403 403 403 201 403 403 401 401
DELETE tokens/{token}/                         401 404 404 404 404 204 404 404 401 401
DELETE tokens/{token}/?owner=ada               401 404 403 403 403 204 403 204 401 401
"""
ROLES = (
    "nobody",
    "stranger",
    "reader",
    "submitter",
    "manager",
    "owner",
    "operator",
    "superuser",
    "disabled",
    "expired",
)


class World:
    """Ada's datasets and folds, and one client of each role."""

    def __init__(self) -> None:
        self.owner = make_account("ada")
        self.raw_data = make_ready_dataset(self.owner)
        self.kit = make_kit(self.owner)
        finish_fold(self.owner, self.raw_data, databoard_sf_id=11)
        make_fold(self.owner, databoard_sf_id=12)
        self.clients = dict(self._make_clients())
        self.share = Share.objects.filter(raw_data=self.raw_data).earliest("pk")
        self.token, _ = create_token(account=self.owner)
        make_account("eve")

    def ask(self, role: str, method: str, path: str, variant: str) -> Any:
        places: dict[str, Any] = {
            "pk": self.raw_data.pk,
            "share": self.share.pk,
            "sf_id": 12,
            "tested": 11,
            "token": self.token.public_id,
        }
        body = self._make_body(f"{method} {path}", variant)
        client = self.clients[role]
        return getattr(client, method.lower())(f"/runapp/{path.format(**places)}", body)

    def _make_clients(self) -> Iterator[tuple[str, JSONClient]]:
        yield "nobody", make_client()
        yield "stranger", make_client(make_account("stranger"))
        for role in (Share.Role.READ, Share.Role.SUBMIT, Share.Role.MANAGE):
            name = {"read": "reader", "submit": "submitter", "manage": "manager"}[role]
            yield name, make_client(self._let_in(name, role))
        yield "owner", make_client(self.owner)
        operator = make_account("operator")
        operator.groups.add(Group.objects.create(name="operators"))
        yield "operator", make_client(operator)
        yield "superuser", make_client(make_account("root", is_superuser=True))
        disabled = self._let_in("disabled", Share.Role.MANAGE)
        disabled.is_active = False
        disabled.save()
        yield "disabled", make_client(disabled)
        yield "expired", self._make_expired_client()

    def _let_in(self, name: str, role: str) -> User:
        account = make_account(name)
        for raw_data in (self.raw_data, self.kit):
            share_raw_data(raw_data=raw_data, role=role, account=name)
        return account

    def _make_expired_client(self) -> JSONClient:
        token, key = get_token_model().objects.create(self.owner, expiry=timedelta(hours=1))
        get_token_model().objects.filter(pk=token.pk).update(expiry=timezone.now())
        client = JSONClient()
        client.credentials(HTTP_AUTHORIZATION=f"Token {key}")
        return client

    def _make_body(self, endpoint: str, variant: str) -> Any:
        pk = self.raw_data.pk
        custom = {"raw_data_id": self.kit.pk, "force": True}
        split = {"raw_data_id": pk, "held_out_test": 0.5, "force": True}
        fold = make_fold_body(self.raw_data, databoard_sf_id=77, databoard_s_id=7)
        bodies: dict[str, Any] = {
            "POST rawdata/": make_raw_data_body(name="another"),
            "PATCH rawdata/{pk}/": {"limits": {"processes": 2}},
            "POST rawdata/{pk}/folds/": {"n_splits": 3},
            "POST rawdata/{pk}/shares/": {"account": "eve", "role": "read"},
            "POST rawdata/split/": split,
            "POST raw_data/split/": split,
            "POST rawdata/customsplit/": custom,
            "POST raw_data/customsplit/": custom,
            "POST account/password/": {"old_password": PASSWORD, "new_password": "An0ther-of-8"},
            "POST tokens/": {"name": "laptop"},
            "POST tokens/?owner=ada": {"name": "laptop"},
            "POST submissionfold/": fold,
            "POST submissionfold/bulk/": [fold],
            "PATCH submissionfold/{sf_id}/": {"priority": "H"},
            "POST testpredictions/list/?owner=ada": {"list_submission_fold": [11]},
            "POST testpredictions/new/": {"raw_data_id": pk},
        }
        return {"paused": True} if variant == "paused" else bodies.get(endpoint)


def read_table() -> Iterator[tuple[str, str, str, list[str]]]:
    """Yield method, path, variant and what is expected of each role."""
    for line in TABLE.strip().splitlines():
        method, path, *rest = line.split()
        expected = rest[-len(ROLES) :]
        yield method, path, "".join(rest[: -len(ROLES)]), expected


def list_endpoints() -> set[tuple[str, str]]:
    """Return method and path of every endpoint of the API, as the routes have them."""
    return {
        (method.upper(), path)
        for path, view in walk("", get_resolver().url_patterns)
        if path.startswith("runapp/")
        for method in METHODS
        if hasattr(view.view_class, method)
    }


def walk(prefix: str, patterns: list[URLPattern | URLResolver]) -> Iterator[tuple[str, Any]]:
    for pattern in patterns:
        path = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from walk(path, pattern.url_patterns)
        else:
            yield path, pattern.callback


def tell(response: Any, expected: str) -> str:
    """Return the status, with the number of rows, or the status of the first, where one is told."""
    status = str(response.status_code)
    if status != "200" or not {"/", ":"} & set(expected):
        return status
    rows = read_rows(response)
    return f"{status}:{rows[0]['status']}" if ":" in expected else f"{status}/{len(rows)}"


def test_everybody_may_what_the_table_says() -> None:
    world = World()
    found: dict[str, list[str]] = {}
    wanted: dict[str, list[str]] = {}

    for method, path, variant, expected in read_table():
        endpoint = f"{method} {path} {variant}"
        wanted[endpoint] = expected
        for role, status in zip(ROLES, expected, strict=True):
            with transaction.atomic():  # whatever it does is undone
                response = world.ask(role, method, path, variant)
                found.setdefault(endpoint, []).append(tell(response, status))
                transaction.set_rollback(True)

    assert found == wanted
    assert RawData.objects.count() == 2


def test_table_has_every_endpoint() -> None:
    resolver = get_resolver()

    told = {
        (method, resolver.resolve(f"/runapp/{_fill(path)}").route)
        for method, path, _, _ in read_table()
    }

    assert told == list_endpoints()


def _fill(path: str) -> str:
    return path.partition("?")[0].format(pk=1, share=1, sf_id=1, tested=1, token="0" * 16)
