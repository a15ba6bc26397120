"""Operators' deeds to all folds that fit a search, by their pages."""

from __future__ import annotations

import re
from dataclasses import asdict
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from runapp.models import RawData, SubmissionFold
from runapp.models.audit import AuditEvent
from runapp.ops.bulk_actions import do_round
from runapp.ops.search import Search
from runapp.scheduling.control import cancel_fold
from tests.factories import finish_fold, make_fold, make_raw_data, sign_in, work

pytestmark = pytest.mark.django_db

MOST_QUERIES = 8
CONFIRM, SWEEP = "/ops/folds/confirm/", "/ops/folds/sweep/"
EVERYBODY = "all folds of all accounts"
_FIELD = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')


@pytest.fixture
def client(operator: User) -> Client:
    return sign_in(operator)


def make_form(deed: str = "cancel", **sought: str) -> dict[str, str]:
    """Return what the list of folds sends when all that fit are chosen."""
    return {**asdict(Search(**sought)), "deed": deed, "all": "yes", "back": "/ops/folds/?x=1"}


def ask(client: Client, deed: str = "cancel", **sought: str) -> Any:
    response = client.post(CONFIRM, make_form(deed, **sought))
    assert response.status_code == 200
    return response


def read_form(response: Any, deed: str = "cancel") -> dict[str, str]:
    """Return what a page's own form sends."""
    return {**dict(_FIELD.findall(response.content.decode())), "deed": deed}


def sweep(client: Client, form: dict[str, str]) -> Any:
    response = client.post(SWEEP, form)
    assert response.status_code == 200
    return response


def list_phases() -> list[str]:
    return list(SubmissionFold.objects.order_by("pk").values_list("phase", flat=True))


def test_list_offers_all_that_fit_its_search(client: Client, ada: User, iris: RawData) -> None:
    make_fold(ada, iris)

    page = client.get("/ops/folds/?state=TODO&owner=ada").content.decode()

    assert '<input type="checkbox" name="all" value="yes"' in page
    assert '<input type="hidden" name="state" value="TODO">' in page
    assert '<input type="hidden" name="owner" value="ada">' in page


def test_confirmation_tells_the_search_the_counts_and_the_first(
    client: Client, ada: User, iris: RawData
) -> None:
    finish_fold(ada, iris)
    for number in range(12, 24):
        make_fold(ada, iris, databoard_sf_id=number)

    response = ask(client, dataset="iris")

    page = response.content.decode()
    assert "<strong>dataset iris</strong>" in page
    assert "13 folds match; the action applies to <strong>12</strong> of them." in page
    assert "Only waiting and running folds can be cancelled." in page
    assert page.count("<li>Fold ") == 10
    assert "Fold 23 of ada" in page
    assert "and others" in page
    assert 'href="/ops/folds/?x=1"' in page
    assert EVERYBODY not in page
    assert set(list_phases()) == {"done", "waiting"}


def test_empty_search_is_told_in_a_strong_sentence(
    client: Client, ada: User, iris: RawData
) -> None:
    make_fold(ada, iris)

    asked = ask(client)
    done = sweep(client, read_form(asked))

    assert EVERYBODY in asked.content.decode()
    assert "All folds of all accounts." in done.content.decode()
    assert list_phases() == ["done"]


@pytest.mark.parametrize(
    ("sought", "hint"),
    [
        ({"state": "asleep"}, "&quot;asleep&quot; is not a valid state"),
        ({"owner": "eve"}, "There is no account &quot;eve&quot;."),
        ({"dataset": "\0"}, "No dataset can have that name."),
        ({"error_code": "cancelled"}, "No folds match."),
        ({"older_than": "<b>"}, "&quot;&lt;b&gt;&quot; is not a valid age"),
    ],
)
def test_search_that_fits_nothing_does_nothing_and_gives_a_hint(
    sought: dict[str, str], hint: str, client: Client, ada: User, iris: RawData
) -> None:
    make_fold(ada, iris)
    form = {**make_form(**sought), "moment": "2999-01-01T00:00:00Z", "below": "99"}

    asked = ask(client, **sought)
    done = sweep(client, form)

    assert hint in asked.content.decode()
    assert SWEEP not in asked.content.decode()
    if hint != "No folds match.":
        assert hint in done.content.decode()
    assert list_phases() == ["waiting"]


def test_none_that_fit_can_have_it_done(client: Client, ada: User, iris: RawData) -> None:
    finish_fold(ada, iris)

    page = ask(client, state="TESTED").content.decode()

    assert "1 fold matches; the action applies to <strong>0</strong> of them." in page
    assert SWEEP not in page


def test_rounds_go_on_until_none_is_left(
    client: Client, ada: User, iris: RawData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runapp.ops.views.bulk_actions.do_round", partial(do_round, most=2))
    for number in range(5):
        make_fold(ada, iris, databoard_sf_id=number)
    later = make_fold(ada, make_raw_data(ada, name="digits"), databoard_s_id=2)

    first = sweep(client, read_form(ask(client, dataset="iris")))
    second = sweep(client, read_form(first))
    third = sweep(client, read_form(second))

    told = [(done.context["done"].n_done, str(done.context["left"])) for done in (first, second)]
    assert told == [(2, "3"), (2, "1")]
    assert "3 are left." in first.content.decode()
    assert "1 is left." in second.content.decode()
    assert "None are left." in third.content.decode()
    assert "Go on" not in third.content.decode()
    events = AuditEvent.objects.filter(action="fold_cancelled", actor="olga", via="session")
    assert events.count() == 5
    later.refresh_from_db()
    assert later.phase == "waiting"


def test_going_on_runs_nothing_again_twice(client: Client, ada: User, iris: RawData) -> None:
    for number in (11, 12):
        finish_fold(ada, iris, databoard_sf_id=number)
    form = read_form(ask(client, "rerun"), "rerun")

    first = sweep(client, form)
    work()
    finish_fold(ada, iris, databoard_sf_id=13)
    again = sweep(client, form)
    further = sweep(client, {**first.context["fields"], "deed": "rerun"})

    done = [response.context["done"].n_done for response in (first, again, further)]
    assert done == [2, 0, 0]
    attempts = SubmissionFold.objects.order_by("pk").values_list("attempt", flat=True)
    assert list(attempts) == [2, 2, 1]


def test_refusals_are_told_by_sentence_with_some_links(
    client: Client, ada: User, iris: RawData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runapp.ops.views.bulk_actions.ROWS", 2)
    folds = [make_fold(ada, iris, databoard_sf_id=number) for number in (11, 12, 13)]
    for fold in folds:
        cancel_fold(fold=fold)
    RawData.objects.update(state="ERROR")

    page = sweep(client, read_form(ask(client, "rerun"), "rerun")).content.decode()

    assert "Run again: 0 done, 3 not done" in page
    assert page.count("split has failed.") == 1
    assert [f'href="/ops/folds/{fold.pk}/"' in page for fold in folds] == [False, True, True]
    assert "None are left." in page


@pytest.mark.parametrize(
    "changes",
    [
        {"moment": ""},
        {"moment": "yesterday"},
        {"moment": "2026-01-01T00:00:00"},
        {"moment": "0001-01-01T00:00:00+23:00"},
        {"moment": "9999-12-31T23:59:59-23:00"},
        {"below": ""},
        {"below": "x"},
        {"below": "0"},
        {"below": str(2**63)},
        {"below": "9" * 5000},
        {"owner": None},
    ],
)
def test_form_that_is_not_whole_does_nothing(
    changes: dict[str, str | None], client: Client, ada: User, iris: RawData
) -> None:
    make_fold(ada, iris)
    form: dict[str, Any] = {**read_form(ask(client, owner="ada")), **changes}

    page = sweep(client, {name: value for name, value in form.items() if value is not None})

    assert "The form is incomplete." in page.content.decode()
    assert list_phases() == ["waiting"]


def test_search_that_is_not_whole_is_not_asked_for(client: Client, ada: User) -> None:
    form = make_form()
    del form["older_than"]

    response = client.post(CONFIRM, form)

    assert "The form is incomplete." in response.content.decode()


def test_moment_at_the_edge_of_time_is_before_every_fold(
    client: Client, ada: User, iris: RawData
) -> None:
    make_fold(ada, iris)
    form = read_form(ask(client))

    done = sweep(client, {**form, "moment": "0001-01-01T00:00:00+00:00", "below": str(2**63 - 1)})

    assert done.context["done"].is_empty
    assert list_phases() == ["waiting"]


def test_only_operators_sweep_and_by_their_own_forms(
    client: Client, operator: User, ada: User, iris: RawData
) -> None:
    make_fold(ada, iris)
    form = read_form(ask(client))

    statuses = [
        sign_in(ada).post(SWEEP, form).status_code,
        sign_in(operator, enforce_csrf_checks=True).post(SWEEP, form).status_code,
        Client().post(SWEEP, form).status_code,
        client.get(SWEEP).status_code,
        client.post(SWEEP, {**form, "deed": "burn"}).status_code,
    ]

    assert statuses == [403, 403, 302, 405, 404]
    assert list_phases() == ["waiting"]


def test_what_others_have_named_is_harmless_in_the_search(client: Client, ada: User) -> None:
    name = '"><script>alert(1)</script>'
    make_fold(ada, make_raw_data(ada, name=name))

    page = ask(client, dataset=name).content.decode()

    assert "<script>alert" not in page
    assert "Fold 11 of ada" in page


@pytest.mark.parametrize("number", [1, 15])
def test_confirmation_needs_few_queries_however_many_fit(
    number: int, client: Client, ada: User, iris: RawData
) -> None:
    for one in range(number):
        make_fold(ada, iris, databoard_sf_id=one, priority="H")
    SubmissionFold.objects.update(worker="w@h/1/2")
    full = {"dataset": "iris", "owner": "ada", "worker": "w@h", "priority": "H"}

    with CaptureQueriesContext(
        connection,
    ) as found:
        ask(client, **full)
    with CaptureQueriesContext(connection) as nothing:
        ask(client, **full, error_code="cancelled")

    assert len(found) <= MOST_QUERIES
    assert len(nothing) <= MOST_QUERIES
