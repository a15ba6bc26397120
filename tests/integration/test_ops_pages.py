"""The operators' pages: who sees them, what they show, and what they cost."""

from __future__ import annotations

import json
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any
from unittest.mock import Mock

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import F
from django.template import Context, Template
from django.test import Client
from django.test.utils import CaptureQueriesContext

from runapp.accounts.quotas import set_quota
from runapp.common.exceptions import StorageAway, StorageError
from runapp.datasets.sharing import share_raw_data
from runapp.models import RawData, SubmissionFold, Worker
from runapp.runner.contract import Outcome
from runapp.scheduling.attempts import begin_attempt
from runapp.storage import Bin
from tests.factories import (
    PASSWORD,
    finish_fold,
    make_account,
    make_fold,
    make_live_worker,
    make_ready_dataset,
    pack,
    sign_in,
)

pytestmark = pytest.mark.django_db

MOST_QUERIES = 8
HOSTILE = "<script>alert(1)</script>"


def list_paths(fold: SubmissionFold) -> list[str]:
    return [
        "/ops/",
        "/ops/folds/",
        f"/ops/folds/{fold.pk}/",
        "/ops/datasets/",
        f"/ops/datasets/{fold.raw_data_id}/",
        f"/ops/submissions/{fold.submission_id}/",
        "/ops/accounts/ada/",
    ]


def read(client: Client, path: str, **headers: str) -> str:
    response = client.get(path, headers=headers)
    assert response.status_code == 200, response.content
    return response.content.decode()


def list_folds(page: str) -> list[int]:
    """Return the rows' keys of the folds that a page lists."""
    return [int(part.split(":")[0]) for part in page.split('name="fold" value="')[1:]]


def test_pages_send_who_is_unknown_to_sign_in(ada: User, iris: RawData) -> None:
    for path in list_paths(make_fold(ada, iris)):
        response = Client().get(path)

        assert response.status_code == 302
        assert response["Location"] == f"/ops/sign-in/?next={path}"


def test_pages_show_nothing_to_who_is_no_operator(ada: User, iris: RawData) -> None:
    fold = make_fold(ada, iris)
    client = sign_in(ada)

    for path in list_paths(fold):
        response = client.get(path)

        assert response.status_code == 403
        assert b"iris" not in response.content
    posted = {"deed": "cancel", "fold": f"{fold.pk}:0:waiting:{fold.queued_at.isoformat()}"}
    assert client.post("/ops/folds/steer/", posted).status_code == 403
    assert client.post(f"/ops/datasets/{iris.pk}/pause/", {"paused": "yes"}).status_code == 403
    fold.refresh_from_db()
    iris.refresh_from_db()
    assert (fold.phase, iris.paused) == ("waiting", False)


def test_part_sends_the_browser_to_sign_in_when_the_session_is_over() -> None:
    page = "http://testserver/ops/folds/?state=ERROR"

    response = Client().get(
        "/ops/folds/1/place/", headers={"hx-request": "true", "hx-current-url": page}
    )

    assert response["HX-Redirect"] == "/ops/sign-in/?next=/ops/folds/%3Fstate%3DERROR"


def test_operator_signs_in_by_the_form_and_out(operator: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.get("/ops/sign-in/")
    form = {"username": "olga", "csrfmiddlewaretoken": client.cookies["csrftoken"].value}

    wrong = client.post("/ops/sign-in/", {**form, "password": "not it"})
    right = client.post("/ops/sign-in/", {**form, "password": PASSWORD, "next": "/ops/folds/"})
    token = client.cookies["csrftoken"].value
    signed_out = client.post("/ops/sign-out/", {"csrfmiddlewaretoken": token})

    assert "is wrong" in wrong.content.decode()
    assert right["Location"] == "/ops/folds/"
    assert signed_out["Location"] == "/ops/sign-in/"
    assert client.get("/ops/").status_code == 302


def test_too_many_wrong_passwords_are_told_on_the_page(operator: User, settings: Any) -> None:
    settings.AXES_FAILURE_LIMIT = 2
    form = {"username": "olga", "password": "not it"}

    answers = [Client().post("/ops/sign-in/", form) for _ in range(3)]
    right = Client().post("/ops/sign-in/", {**form, "password": PASSWORD})

    assert [answer.status_code for answer in answers] == [200, 429, 429]
    assert "Too many wrong passwords" in right.content.decode()
    assert int(right["Retry-After"]) > 0
    assert "default-src 'none'" in right["Content-Security-Policy"]


def test_sign_in_leads_to_no_other_host(operator: User) -> None:
    form = {"username": "olga", "password": PASSWORD, "next": "https://elsewhere.example/"}

    response = Client().post("/ops/sign-in/", form)

    assert response["Location"] == "/ops/"


def test_pages_tell_in_which_zone_their_times_are(operator: User, ada: User, iris: RawData) -> None:
    client = sign_in(operator)

    for path in list_paths(make_fold(ada, iris)):
        assert "Times are in UTC" in read(client, path)


def test_pages_may_load_nothing_from_elsewhere_and_are_kept_by_nobody(
    operator: User, ada: User, iris: RawData
) -> None:
    client = sign_in(operator)

    for path in [*list_paths(make_fold(ada, iris)), "/ops/sign-in/", "/ops/folds/99999/"]:
        response = client.get(path)

        policy = response["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "no-store" in response["Cache-Control"]
        content = response.content.decode()
        assert "://" not in content
        assert "style=" not in content


@pytest.mark.parametrize("is_superuser", [False, True])
def test_pages_need_few_queries_however_many_rows(
    is_superuser: bool, operator: User, ada: User, iris: RawData
) -> None:
    make_live_worker(broken=[])
    fold = finish_fold(ada, iris)
    for number in range(12, 18):
        make_fold(ada, iris, databoard_sf_id=number, databoard_s_id=number)
    waiting = SubmissionFold.objects.filter(phase="waiting").latest("pk")
    running = SubmissionFold.objects.filter(phase="waiting").earliest("pk")
    SubmissionFold.objects.filter(pk=running.pk).update(
        phase="running", worker="worker-1/1/2", started_at=F("queued_at")
    )
    User.objects.filter(pk=operator.pk).update(is_superuser=is_superuser)
    client = sign_in(operator)
    paths = [*list_paths(fold), *(f"/ops/folds/{row.pk}/" for row in (waiting, running))]
    paths.append(f"/ops/folds/{waiting.pk}/place/")
    search = "/ops/folds/?dataset=no&owner=no&worker=no"

    for path in [*paths, search]:
        for headers in ({}, {"hx-request": "true"}):
            with CaptureQueriesContext(connection) as queries:
                read(client, path, **headers)

            # A part asks first whether anything has changed.
            most = MOST_QUERIES + bool(headers)
            assert len(queries) <= most, [query["sql"] for query in queries]


def test_overview_tells_what_waits_runs_and_has_ended(
    operator: User, ada: User, iris: RawData
) -> None:
    make_live_worker(broken=[])
    finish_fold(ada, iris)
    finish_fold(ada, iris, databoard_sf_id=12, outcome=Outcome.WALL_LIMIT)
    make_fold(ada, iris, databoard_sf_id=13)
    make_fold(ada, iris, databoard_sf_id=14)
    start = F("queued_at") - timedelta(seconds=100)
    SubmissionFold.objects.filter(databoard_sf_id=14).update(
        phase="running", started_at=start, worker="worker-1/1/2"
    )

    response = sign_in(operator).get("/ops/")

    totals = response.context["totals"]
    assert {name: count.number for name, count in totals.counts.items()} == {
        "waiting": 1,
        "running": 1,
        "TESTED": 1,
        "ERROR": 1,
    }
    assert 0 <= totals.oldest_seconds < 60
    throughput = response.context["throughput"]
    for ended in (throughput.last_hour, throughput.last_day):
        assert (ended.tested, ended.failed) == (1, 1)
    assert response.context["slots"] == {"busy": 1, "idle": 0, "lost": 0}
    (line,) = response.context["datasets"]
    assert {name: count.number for name, count in line.counts.items()}["waiting"] == 1
    assert "fold 14 of ada" in response.content.decode()


@pytest.mark.parametrize("priority", ["H", "L"])
def test_oldest_waiting_is_found_at_any_priority(
    priority: str, operator: User, ada: User, iris: RawData
) -> None:
    fold = make_fold(ada, iris, priority=priority)
    SubmissionFold.objects.filter(pk=fold.pk).update(
        queued_at=F("queued_at") - timedelta(seconds=500)
    )

    response = sign_in(operator).get("/ops/")

    assert 500 <= response.context["totals"].oldest_seconds < 560


def test_lost_worker_is_told(operator: User) -> None:
    make_live_worker()
    Worker.objects.update(seen_at=F("seen_at") - timedelta(minutes=5))

    response = sign_in(operator).get("/ops/")

    assert response.context["slots"] == {"busy": 0, "idle": 0, "lost": 1}
    assert '<span class="problem">lost</span>' in response.content.decode()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [14, 13, 12, 11]),
        ("state=ERROR", [12]),
        ("state=waiting", [14, 13]),
        ("error_code=wall_limit", [12]),
        ("submission=1", [13, 12, 11]),
        ("submission=2", [14]),
        ("owner=ada&priority=H", [13]),
        ("sort=id", [11, 12, 13, 14]),
        ("sort=-queued", [14, 13, 12, 11]),
        ("sort=ended", [11, 12]),
        ("sort=-ended", [12, 11]),
        ("sort=nonsense", [14, 13, 12, 11]),
        ("after=nonsense", [14, 13, 12, 11]),
        ("after=99999999999999999999", [14, 13, 12, 11]),
        ("sort=queued&after=1,nonsense", [11, 12, 13, 14]),
        ("sort=queued&after=5,0001-01-01T00:00:00%2B23:00", [11, 12, 13, 14]),
        ("sort=queued&after=5,2000-01-01T00:00:00%2B23:59", [11, 12, 13, 14]),
        ("sort=queued&after=5,9999-12-31T23:59:59-23:00", [11, 12, 13, 14]),
    ],
)
def test_list_finds_and_sorts(
    query: str, found: list[int], operator: User, ada: User, iris: RawData
) -> None:
    finish_fold(ada, iris)
    finish_fold(ada, iris, databoard_sf_id=12, outcome=Outcome.WALL_LIMIT)
    make_fold(ada, iris, databoard_sf_id=13, priority="H")
    make_fold(ada, iris, databoard_sf_id=14, databoard_s_id=2)

    response = sign_in(operator).get(f"/ops/folds/?{query}")

    assert [line.fold for line in response.context["lines"]] == found


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("state=asleep", "&quot;asleep&quot; is not a valid state"),
        ("dataset=none", "There is no dataset with the name or id &quot;none&quot;."),
        ("submission=x", "&quot;x&quot; is not a valid submission id"),
        ("submission=99999999999999999999", "is not a valid submission id"),
        ("older_than=long", "&quot;long&quot; is not a valid age"),
        ("owner=%00", "No owner can have that name."),
        ("worker=%00", "No worker can have that name."),
        ("dataset=%00", "No dataset can have that name."),
        ("owner=%3Cscript%3E", "There is no account &quot;&lt;script&gt;&quot;."),
        ("dataset=%1b%5b2J", "There is no dataset with the name or id &quot;\u241b[2J&quot;."),
        ("state=TESTED", "No folds match."),
        ("older_than=999999d", "No folds match."),
        pytest.param(f"worker={'w' * 60_000}", "No worker can have that name.", id="long worker"),
    ],
)
def test_nonsense_gives_no_row_and_a_hint(
    query: str, hint: str, operator: User, ada: User, iris: RawData
) -> None:
    make_fold(ada, iris)

    page = read(sign_in(operator), f"/ops/folds/?{query}")

    assert hint in page
    assert list_folds(page) == []


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("sort=-wall", [11, 13, 12]),
        ("sort=wall", [12, 13, 11]),
        ("sort=-cpu", [13, 12, 11]),
        ("sort=cpu", [11, 12, 13]),
        ("sort=-memory", [11, 12]),
        ("sort=memory", [12, 11]),
        # What was sorted by before, and what is no number.
        ("sort=-wall&after=999999999999,2026-11-27T00:00:00%2B00:00", [11, 13, 12]),
        ("sort=-wall&after=999999999999,nan", [11, 13, 12]),
    ],
)
def test_list_sorts_by_what_ended_folds_have_used(
    query: str, found: list[int], operator: User, ada: User, iris: RawData
) -> None:
    used = (
        {"train_time": 9.0, "validation_time": None, "test_time": None, "train_cpu_time": 1.0}
        | {"test_cpu_time": None, "train_memory": 500.0, "test_memory": None},
        {"train_time": 1.0, "validation_time": 1.0, "test_time": 1.0, "train_cpu_time": 1.0}
        | {"test_cpu_time": 1.0, "train_memory": 300.0, "test_memory": 400.0},
        {"train_time": 2.0, "validation_time": 2.0, "test_time": 3.0, "train_cpu_time": 3.0}
        | {"test_cpu_time": 0.5, "train_memory": None, "test_memory": None},
    )
    for number, fields in enumerate(used, start=11):
        fold = finish_fold(ada, iris, databoard_sf_id=number)
        SubmissionFold.objects.filter(pk=fold.pk).update(**fields)
    make_fold(ada, iris, databoard_sf_id=14)

    response = sign_in(operator).get(f"/ops/folds/?{query}")

    assert [line.fold for line in response.context["lines"]] == found


@pytest.mark.parametrize("few", [0, 1000])
@pytest.mark.parametrize(
    ("worker", "found"),
    [("one@host", [12, 11]), ("one@host/7/8", [11]), ("two%", [13]), ("ONE", []), ("two_", [])],
)
def test_list_finds_by_the_beginning_of_a_worker_many_or_few(
    worker: str,
    found: list[int],
    few: int,
    operator: User,
    ada: User,
    iris: RawData,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("runapp.ops.search.FEW", few)
    for number, name in enumerate(("one@host/7/8", "one@host/7/9", "two%@host/1/2"), start=11):
        fold = finish_fold(ada, iris, databoard_sf_id=number)
        SubmissionFold.objects.filter(pk=fold.pk).update(worker=name)

    response = sign_in(operator).get("/ops/folds/", {"worker": worker})

    assert [line.fold for line in response.context["lines"]] == found


@pytest.mark.parametrize(
    "by",
    [
        *("id", "-id", "queued", "-queued", "ended", "-ended"),
        *("wall", "-wall", "cpu", "-cpu", "memory", "-memory"),
    ],
)
def test_pages_follow_each_other_without_a_gap(
    by: str, operator: User, ada: User, iris: RawData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runapp.ops.views.folds.ROWS", 2)
    for number in range(11, 16):
        make_fold(ada, iris, databoard_sf_id=number)
    # Equal moments, as a bulk makes them.
    first = SubmissionFold.objects.earliest("pk")
    used = {"train_time": 0.1, "validation_time": 0.2, "test_time": 0.3, "train_memory": 1000.1}
    SubmissionFold.objects.update(
        phase="done",
        state="TESTED",
        queued_at=first.queued_at,
        finished_at=first.queued_at,
        train_cpu_time=0.1,
        **used,
    )
    client = sign_in(operator)
    found: list[int] = []
    query: Any = f"?sort={by}"

    while query:
        response = client.get(f"/ops/folds/{query}")
        found += [line.fold for line in response.context["lines"]]
        query = response.context["next"]

    assert found == sorted(range(11, 16), reverse=by.startswith("-"))


def test_what_others_have_named_and_printed_is_shown_as_it_is_and_harmless(
    operator: User, ada: User, iris: RawData
) -> None:
    fold = finish_fold(ada, iris)
    SubmissionFold.objects.update(log_messages=f"{HOSTILE}\n\x1b[2Jwiped\x07\u202e", error_code="x")
    RawData.objects.update(name=f"{HOSTILE}\x1b")
    User.objects.filter(pk=operator.pk).update(is_superuser=True)
    client = sign_in(operator)

    for path in list_paths(fold):
        page = read(client, path)

        assert "<script>alert" not in page
        assert not {"\x1b", "\x07", "\u202e"} & set(page)
    page = read(client, f"/ops/folds/{fold.pk}/")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\n\u241b[2Jwiped\u2407\\u202e" in page


class Places(HTMLParser):
    """Collects what is drawn on a page, and every name of an attribute of those places."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[dict[str, Any]] = []
        self.names: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if "data-chart" in named:
            self.found.append({**named, "data": json.loads(named["data-chart"] or "")})
            self.names |= set(named)


def test_charts_data_is_on_the_page_and_holds_no_names(
    operator: User, ada: User, iris: RawData
) -> None:
    finish_fold(ada, iris)
    RawData.objects.update(name="'\"><script>alert(1)</script>")
    client = sign_in(operator)

    overview = Places(read(client, "/ops/"))
    dataset = Places(read(client, f"/ops/datasets/{iris.pk}/"))

    assert [place["data"]["kind"] for place in overview.found] == ["throughput"]
    assert sum(overview.found[0]["data"]["tested"][-6:]) == 1
    assert [place["data"]["name"] for place in dataset.found] == ["wall", "CPU", "peak memory"]
    for place in (*overview.found, *dataset.found):
        assert place["role"] == "img"
        assert place["aria-label"]
        assert "alert" not in str(place)
    assert overview.names | dataset.names == {"class", "role", "aria-label", "data-chart"}


def test_hostile_text_in_data_does_not_break_out() -> None:
    hostile = {"name": "'\"><script>alert(1)</script>&quot;</div>"}
    page = Template('{% load ops %}<div data-chart="{{ data|as_json }}"></div>')

    text = page.render(Context({"data": hostile}))

    assert "<script" not in text
    assert [place["data"] for place in Places(text).found] == [hostile]


def test_figures_of_charts_are_in_tables_too(operator: User, ada: User, iris: RawData) -> None:
    finish_fold(ada, iris)
    finish_fold(ada, iris, databoard_sf_id=12, outcome=Outcome.WALL_LIMIT)
    client = sign_in(operator)

    overview = read(client, "/ops/").split("<details")[1]
    dataset = read(client, f"/ops/datasets/{iris.pk}/").split("<details")[1:]

    assert overview.count('<td class="number">1</td>') == 2
    for table in dataset:
        assert table.split("</details>")[0].count("<tr>") == 21
        assert table.count('<td class="number">1</td></tr>') == 1


def test_dataset_without_results_draws_nothing(operator: User, ada: User, iris: RawData) -> None:
    make_fold(ada, iris)

    page = read(sign_in(operator), f"/ops/datasets/{iris.pk}/")

    assert Places(page).found == []
    assert page.count("no fold has been tested yet") == 3


def test_log_is_shown_to_readers_only(operator: User, ada: User, iris: RawData) -> None:
    fold = finish_fold(ada, iris)
    client = sign_in(operator)
    path = f"/ops/folds/{fold.pk}/"

    before = read(client, path)
    share_raw_data(raw_data=iris, account="olga", role="read")
    after = read(client, path)

    assert "printed\n" not in before
    assert "Only the fold's owner and accounts that may read its dataset" in before
    assert "printed" in after.split("<pre")[1]


def test_long_log_has_head_and_tail(operator: User, ada: User, iris: RawData) -> None:
    fold = finish_fold(ada, iris)
    SubmissionFold.objects.update(log_messages="\n".join(f"line {n}" for n in range(1000)))
    User.objects.filter(pk=operator.pk).update(is_superuser=True)

    page = read(sign_in(operator), f"/ops/folds/{fold.pk}/")

    assert all(f"line {n}\n" in page for n in (0, 98, 900, 998))
    assert "line 500" not in page
    assert "800 lines were left out." in page


def test_fold_tells_why_and_where_it_waits(operator: User, ada: User, iris: RawData) -> None:
    make_live_worker(broken=[])
    make_fold(ada, iris)
    second = make_fold(ada, iris, databoard_sf_id=12)
    client = sign_in(operator)

    page = read(client, f"/ops/folds/{second.pk}/")
    place = read(client, f"/ops/folds/{second.pk}/place/")

    assert "<strong>behind_others</strong>" in page
    assert "number 2 in the queue" in place
    assert "likely to start" in place


def test_fold_that_runs_tells_of_what_it_has_not_used_yet(
    operator: User, ada: User, iris: RawData
) -> None:
    fold = make_fold(ada, iris)
    rows = SubmissionFold.objects.filter(pk=fold.pk)
    rows.update(phase="running", attempt=1, worker="w/1/2", started_at=F("queued_at"))
    fold.refresh_from_db()
    begin_attempt(fold=fold)

    page = read(sign_in(operator), f"/ops/folds/{fold.pk}/")

    assert "running, for" in page
    assert "<td>runs</td>" in page


def test_part_is_answered_again_only_when_something_changed(
    operator: User, ada: User, iris: RawData, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = make_fold(ada, iris)
    client = sign_in(operator)
    # The ten seconds of the clock may end at any moment.
    monkeypatch.setattr("runapp.ops.overview.TICK_SECONDS", 10**10)
    for number, path in enumerate(list_paths(fold), start=1000):
        first = client.get(path, headers={"hx-request": "true"})
        known = {"hx-request": "true", "if-none-match": first["ETag"]}

        again = client.get(path, headers=known)
        make_fold(ada, iris, databoard_sf_id=number)
        changed = client.get(path, headers=known)

        assert b"<html" not in first.content
        assert (again.status_code, again.content) == (304, b"")
        assert changed.status_code == 200


def test_dataset_shows_grid_charts_and_what_is_left(
    operator: User, ada: User, iris: RawData
) -> None:
    make_live_worker(broken=[])
    finish_fold(ada, iris)
    finish_fold(ada, iris, databoard_sf_id=12, outcome=Outcome.WALL_LIMIT)
    make_fold(ada, iris, databoard_sf_id=13, databoard_s_id=2)

    response = sign_in(operator).get(f"/ops/datasets/{iris.pk}/")

    story = response.context["story"]
    grid = [(row.number, [cell.letter for cell in row.cells]) for row in story.rows]
    assert grid == [(2, ["W"]), (1, ["T", "E"])]
    assert (story.n_ended, story.n_all) == (2, 3)
    assert '<progress id="rest" max="3" value="2">' in response.content.decode()
    # As the stand-in of the runner tells.
    assert [chart.median for chart in story.charts] == [1.875, 1.3125, 5 / 1024]
    assert story.seconds_left == 1.875


def test_submission_names_its_files_to_readers_only(
    operator: User, ada: User, iris: RawData
) -> None:
    fold = finish_fold(ada, iris)
    client = sign_in(operator)
    path = f"/ops/submissions/{fold.submission_id}/"

    before = read(client, path)
    share_raw_data(raw_data=iris, account="olga", role="read")
    after = read(client, path)

    assert "classifier.py" not in before
    assert "classifier.py" in after
    assert f"/ops/folds/{fold.pk}/" in before


def test_submission_tells_what_its_folds_have_used_in_all(
    operator: User, ada: User, iris: RawData
) -> None:
    used = {"train_time": 1.0, "validation_time": 1.0, "test_time": 1.0, "train_memory": 2048.0}
    for number in (11, 12):
        fold = finish_fold(ada, iris, databoard_sf_id=number)
    SubmissionFold.objects.update(train_cpu_time=0.5, test_cpu_time=0.5, test_memory=100.0, **used)
    finish_fold(ada, iris, databoard_sf_id=13, databoard_s_id=2)
    make_fold(ada, iris, databoard_sf_id=14)

    response = sign_in(operator).get(f"/ops/submissions/{fold.submission_id}/")

    story = response.context["story"]
    assert len(story.lines) == 3
    assert (story.sums.wall, story.sums.cpu, story.sums.memory) == (6.0, 2.0, 2.0)


def test_fold_and_submission_tell_what_was_done_to_them(
    operator: User, ada: User, iris: RawData
) -> None:
    eve = make_account("eve")
    fold = make_fold(ada, iris)
    # Clients number theirs alike.
    make_fold(eve, make_ready_dataset(eve))
    client = sign_in(operator)
    seen = f"{fold.pk}:{fold.attempt}:{fold.phase}:{fold.queued_at.isoformat()}"
    client.post("/ops/folds/steer/", {"deed": "cancel", "fold": seen})

    of_fold = client.get(f"/ops/folds/{fold.pk}/").context["story"].events
    of_submission = client.get(f"/ops/submissions/{fold.submission_id}/").context["story"].events

    assert [(event.action, event.actor) for event in of_fold] == [("fold_cancelled", "olga")]
    assert [(event.action, event.actor) for event in of_submission] == [
        ("submission_posted", "ada")
    ]


def test_file_of_a_submission_is_shown_to_readers_only(
    operator: User, ada: User, iris: RawData
) -> None:
    code = b"print('\x1b[31m')\n# <script>alert(1)</script> \xff\n"
    fold = make_fold(ada, iris, files={"classifier.py": pack(code)})
    client = sign_in(operator)
    path = f"/ops/submissions/{fold.submission_id}/files/classifier.py/"

    refused = client.get(path)
    share_raw_data(raw_data=iris, account="olga", role="read")
    shown = client.get(path)
    missing = client.get(path.replace("classifier", "regressor"))

    assert (refused.status_code, shown.status_code, missing.status_code) == (403, 200, 404)
    assert "alert" not in refused.content.decode()
    text = shown.content.decode()
    assert "&lt;script&gt;alert(1)&lt;/script&gt; \\xff" in text
    assert "\u241b[31m" in text
    assert "<script>alert" not in text


@pytest.mark.parametrize(
    ("error", "status"), [(StorageAway(), 503), (StorageError("It is damaged."), 500)]
)
def test_file_that_cannot_be_read_is_told_of(
    error: StorageError,
    status: int,
    operator: User,
    ada: User,
    iris: RawData,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fold = make_fold(ada, iris)
    share_raw_data(raw_data=iris, account="olga", role="read")
    monkeypatch.setattr(Bin, "read", Mock(side_effect=error))

    response = sign_in(operator).get(f"/ops/submissions/{fold.submission_id}/files/classifier.py/")

    assert response.status_code == status
    assert f"<p>{error.message}" in response.content.decode()


def test_links_to_all_folds_of_a_submission_find_no_others(
    operator: User, ada: User, iris: RawData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runapp.ops.account_page.FOLDS_SHOWN", 1)
    monkeypatch.setattr("runapp.ops.dataset_page.FOLDS_IN_ROW", 1)
    share_raw_data(raw_data=iris, account="olga", role="submit")
    for account in (ada, operator):
        for number in (11, 12):
            fold = make_fold(account, iris, databoard_sf_id=number)
    client = sign_in(operator)
    query = f"?dataset={iris.pk}&amp;submission=1&amp;owner=olga"

    assert f"/ops/folds/{query}" in read(client, f"/ops/submissions/{fold.submission_id}/")
    assert f"/ops/folds/{query}" in read(client, f"/ops/datasets/{iris.pk}/")


def test_account_tells_use_quotas_and_history(operator: User, ada: User, iris: RawData) -> None:
    set_quota(account=ada, changes={"folds_per_day": 9, "waiting_folds": 5})
    make_fold(ada, iris)
    client = sign_in(operator)

    response = client.get("/ops/accounts/ada/")

    rooms = {room.name: (room.used, room.limit) for room in response.context["story"].rooms}
    assert rooms["waiting folds"] == (1, 5)
    assert rooms["folds today"] == (1, 9)
    assert rooms["stored, MB"] == (None, None)
    assert client.get("/ops/accounts/nobody/").status_code == 404
    assert client.get("/ops/accounts/%00/").status_code == 404


def test_dataset_is_paused_and_goes_on(operator: User, iris: RawData) -> None:
    client = sign_in(operator)
    path = f"/ops/datasets/{iris.pk}/"

    client.post(f"{path}pause/", {"paused": "yes"})
    paused = read(client, path)
    client.post(f"{path}pause/", {"paused": "no"})
    iris.refresh_from_db()

    assert ">Resume</button>" in paused
    assert iris.paused is False
