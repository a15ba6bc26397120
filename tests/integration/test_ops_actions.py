"""What operators do to folds by their pages: asked first, done once, told for each."""

from __future__ import annotations

import threading

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client

from runapp.common.transitions import Phase
from runapp.models import DailyUse, Predictions, RawData, SubmissionFold
from runapp.models.audit import AuditEvent
from runapp.ops.actions import Seen, rerun_fold
from runapp.scheduling.control import cancel_fold
from tests.factories import finish_fold, make_fold, sign_in, work


@pytest.fixture
def client(operator: User) -> Client:
    return sign_in(operator)


def see(fold: SubmissionFold) -> str:
    """Return what a form says of a fold that is shown now."""
    fold.refresh_from_db()
    return str(Seen(fold.pk, fold.attempt, Phase(fold.phase), fold.queued_at))


def steer(client: Client, deed: str, *seen: str) -> list[tuple[bool, str]]:
    """Return what became of each fold."""
    response = client.post("/ops/folds/steer/", {"deed": deed, "fold": seen})
    assert response.status_code == 200
    return [(result.is_done, result.sentence) for result in response.context["results"]]


def list_events() -> list[tuple[str, str, str, str]]:
    rows = AuditEvent.objects.filter(actor="olga", kind="submission_fold").order_by("pk")
    return list(rows.values_list("action", "target", "via", "owner"))


@pytest.mark.django_db
def test_confirmation_shows_what_would_be_done_and_does_nothing(
    client: Client, ada: User, iris: RawData
) -> None:
    fold = make_fold(ada, iris)
    seen = see(fold)

    response = client.post(
        "/ops/folds/confirm/", {"deed": "cancel", "fold": [seen], "back": "/ops/folds/?state=TODO"}
    )

    page = response.content.decode()
    assert f'name="fold" value="{seen}"' in page
    assert "Fold 11 of ada" in page
    assert 'href="/ops/folds/?state=TODO"' in page
    fold.refresh_from_db()
    assert (fold.phase, list_events()) == ("waiting", [])


@pytest.mark.django_db
@pytest.mark.parametrize("back", ["https://elsewhere.example/", "//elsewhere", "javascript:x", ""])
def test_way_back_leads_to_no_other_host(client: Client, back: str) -> None:
    response = client.post("/ops/folds/confirm/", {"deed": "cancel", "back": back})

    assert response.context["back"] == "/ops/folds/"


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["confirm", "steer"])
@pytest.mark.parametrize(
    "fold", ["", "x", "1:2:3", "1:0:asleep:2020-01-01", f"{10**30}:0:done:2020-01-01T00:00Z"]
)
def test_nonsense_does_nothing(client: Client, path: str, fold: str) -> None:
    told = client.post(f"/ops/folds/{path}/", {"deed": "cancel", "fold": fold})
    unknown = client.post(f"/ops/folds/{path}/", {"deed": "burn", "fold": fold})

    assert (told.status_code, unknown.status_code) == (200, 404)


@pytest.mark.django_db
def test_forms_of_other_sites_do_nothing(operator: User, ada: User, iris: RawData) -> None:
    fold = make_fold(ada, iris)
    client = sign_in(operator, enforce_csrf_checks=True)

    response = client.post("/ops/folds/steer/", {"deed": "cancel", "fold": see(fold)})

    fold.refresh_from_db()
    assert (response.status_code, fold.phase) == (403, "waiting")
    assert "The form is out of date" in response.content.decode()
    assert "default-src 'none'" in response["Content-Security-Policy"]


FORMS = ["folds/confirm", "folds/steer", "folds/sweep", "datasets/1/pause"]


@pytest.mark.django_db
@pytest.mark.parametrize("path", FORMS)
def test_sign_in_after_a_form_leads_to_where_it_was_filled_in(path: str) -> None:
    response = Client().post(f"/ops/{path}/", {"deed": "cancel", "back": "/ops/folds/?state=TODO"})

    assert response["Location"] == "/ops/sign-in/?next=/ops/folds/%3Fstate%3DTODO"


@pytest.mark.django_db
@pytest.mark.parametrize("path", FORMS)
def test_address_of_a_form_alone_does_nothing_and_says_so(client: Client, path: str) -> None:
    response = client.get(f"/ops/{path}/")

    assert (response.status_code, response["Allow"]) == (405, "POST")
    assert "Nothing was done" in response.content.decode()


@pytest.mark.django_db
def test_folds_are_cancelled_with_an_event_each(client: Client, ada: User, iris: RawData) -> None:
    folds = [make_fold(ada, iris, databoard_sf_id=number) for number in (11, 12)]

    results = steer(client, "cancel", *map(see, folds))

    assert results == [(True, "It was cancelled.")] * 2
    rows = SubmissionFold.objects.values_list("phase", "error_code")
    assert set(rows) == {("done", "cancelled")}
    assert list_events() == [
        ("fold_cancelled", "11", "session", "ada"),
        ("fold_cancelled", "12", "session", "ada"),
    ]


@pytest.mark.django_db
def test_fold_that_changed_meanwhile_is_told_and_left_alone(
    client: Client, ada: User, iris: RawData
) -> None:
    ended, waiting = make_fold(ada, iris), make_fold(ada, iris, databoard_sf_id=12)
    seen = [see(ended), see(waiting)]
    cancel_fold(fold=ended)

    results = steer(client, "high", *seen)

    assert results == [
        (False, "It has changed in the meantime: it has ended with cancelled."),
        (True, "It now has priority H."),
    ]
    assert [event[0] for event in list_events()] == ["priority_changed"]


@pytest.mark.django_db
@pytest.mark.parametrize("deed", ["cancel", "rerun", "high"])
def test_what_is_sent_twice_is_done_once(
    deed: str, client: Client, ada: User, iris: RawData
) -> None:
    fold = make_fold(ada, iris)
    if deed == "rerun":
        work()
    seen = see(fold)

    first, second = steer(client, deed, seen), steer(client, deed, seen)

    assert first[0][0] is True
    assert second[0][0] is False
    assert len(list_events()) == 1


@pytest.mark.django_db
def test_cancel_that_comes_again_after_a_rerun_does_nothing(
    client: Client, ada: User, iris: RawData
) -> None:
    fold = make_fold(ada, iris)
    old = see(fold)
    steer(client, "cancel", old)
    steer(client, "rerun", see(fold))

    results = steer(client, "cancel", old)

    fold.refresh_from_db()
    assert results == [(False, "It has changed in the meantime: it is waiting.")]
    assert (fold.phase, fold.attempt) == ("waiting", 0)


@pytest.mark.django_db
def test_finished_fold_is_run_again_from_the_start(
    client: Client, ada: User, iris: RawData
) -> None:
    fold = finish_fold(ada, iris)
    used = DailyUse.objects.get(owner=ada).folds

    results = steer(client, "rerun", see(fold))
    fold.refresh_from_db()
    reset = (fold.phase, fold.state, fold.log_messages, fold.new, fold.train_time)
    n_predictions = Predictions.objects.filter(fold=fold).count()
    work()
    fold.refresh_from_db()

    assert results == [(True, "It is waiting again.")]
    assert reset == ("waiting", "TODO", "", True, None)
    assert n_predictions == 0
    assert (fold.state, fold.attempt) == ("TESTED", 2)
    assert fold.attempts.count() == 2
    assert DailyUse.objects.get(owner=ada).folds == used
    assert list_events() == [("fold_forced", "11", "session", "ada")]


@pytest.mark.django_db
def test_fold_is_not_run_again_that_cannot(client: Client, ada: User, iris: RawData) -> None:
    waiting = make_fold(ada, iris)

    results = steer(client, "rerun", see(waiting))
    steer(client, "cancel", see(waiting))
    RawData.objects.update(state="ERROR")
    results += steer(client, "rerun", see(waiting))
    seen = see(waiting)
    SubmissionFold.objects.all().delete()
    results += steer(client, "rerun", seen) + steer(client, "cancel", seen)

    assert results == [
        (False, "It has not finished."),
        (False, "Its dataset's split has failed."),
        (False, "It no longer exists."),
        (False, "It no longer exists."),
    ]


@pytest.mark.django_db(transaction=True)
def test_two_operators_at_once_run_a_fold_again_once(ada: User, iris: RawData) -> None:
    fold = finish_fold(ada, iris)
    seen = Seen(fold.pk, fold.attempt, Phase(fold.phase), fold.queued_at)
    outcomes: list[bool] = []
    start = threading.Barrier(2)

    def rerun() -> None:
        start.wait()
        try:
            rerun_fold(seen=seen)
            outcomes.append(True)
        except Exception:
            outcomes.append(False)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=rerun) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == [False, True]
    assert AuditEvent.objects.filter(action="fold_forced").count() == 1
