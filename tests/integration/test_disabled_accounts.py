"""A disabled account: nothing of it goes on, nothing of it is lost."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from runapp.common.transitions import Phase
from runapp.datasets.raw_data import request_split
from runapp.execution.training import run_fold
from runapp.models import FoldAttempt, RawData, SubmissionFold
from runapp.runner.contract import Outcome
from runapp.scheduling.attempts import begin_attempt
from runapp.scheduling.claims import (
    claim_fold,
    claim_split,
    count_work,
    held_split,
    renew_fold,
    renew_split,
)
from runapp.scheduling.disabled_accounts import disable_account, enable_account
from runapp.scheduling.position import find_position
from tests.doubles import InstantSupervisor
from tests.factories import (
    PASSWORD,
    make_account,
    make_client,
    make_fold,
    make_live_worker,
    make_raw_data,
    make_ready_dataset,
    make_token,
    read_rows,
    work,
)

pytestmark = pytest.mark.django_db

PATH = "/runapp/submissionfold-light/"


@pytest.fixture
def root() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root", password=PASSWORD))
    return client


def save_admin_form(root: Client, account: User, *, is_active: bool) -> None:
    """Save the form of an account, with its box for `is_active` ticked or not."""
    form: dict[str, Any] = {
        "username": account.username,
        "email": account.email,
        "date_joined_0": "2026-01-01",
        "date_joined_1": "00:00:00",
        **({"is_active": "on"} if is_active else {}),
    }
    response = root.post(f"/admin/auth/user/{account.pk}/change/", form)
    assert response.status_code == 302, response.content.decode()


def test_everything_that_signs_in_is_refused_at_once_and_welcome_again() -> None:
    account = make_account()
    token = make_client()
    token.credentials(HTTP_AUTHORIZATION=f"Token {make_token(account)[1]}")
    session = Client()
    session.force_login(account)
    clients = [make_client(account), token, session]
    statuses = [[client.get(PATH).status_code for client in clients]]

    for change in (disable_account, enable_account):
        change(account=account)
        statuses.append([client.get(PATH).status_code for client in clients])

    assert statuses == [[200] * 3, [401] * 3, [200] * 3]


def test_waiting_folds_are_passed_over_until_it_is_enabled() -> None:
    ada, bob = make_account("ada"), make_account("bob")
    waits = make_fold(ada, make_ready_dataset(ada))
    other = make_fold(bob, make_ready_dataset(bob))

    disable_account(account=ada)
    counted, claimed = count_work(most=9), [claim_fold(worker="w") for _ in range(2)]
    enable_account(account=ada)
    again = claim_fold(worker="w")

    assert counted == 1
    assert claimed == [other, None]
    assert again == waits


def test_running_fold_is_taken_from_its_worker_and_goes_back() -> None:
    ada, bob = make_account("ada"), make_account("bob")
    make_fold(ada, make_ready_dataset(ada))
    held = claim_fold(worker="w")
    make_fold(bob, make_ready_dataset(bob))
    of_bob = claim_fold(worker="w")
    assert held is not None
    assert of_bob is not None
    begin_attempt(fold=held)

    disable_account(account=ada)

    assert (renew_fold(held), renew_fold(of_bob)) == (False, True)
    fold = SubmissionFold.objects.get(pk=held.pk)
    assert (fold.phase, fold.state, fold.failures) == (Phase.WAITING, "TODO", 0)
    assert FoldAttempt.objects.get(fold=fold).outcome == "restarted"
    assert claim_fold(worker="w") is None


def test_late_result_of_a_fold_that_was_taken_is_refused() -> None:
    account = make_account()
    make_fold(account, make_ready_dataset(account))
    held = claim_fold(worker="w")
    assert held is not None
    supervisor = InstantSupervisor(
        outcome=Outcome.TESTED, at_stage=lambda kind: disable_account(account=account)
    )

    run_fold(fold=held, supervisor=supervisor, is_leaving=lambda: False)

    held.refresh_from_db()
    assert (held.phase, held.state) == (Phase.WAITING, "TODO")


def test_split_waits_and_is_taken_from_its_worker() -> None:
    account = make_account()
    raw_data = make_raw_data(account)
    request_split(raw_data=raw_data, held_out_test=0.2, random_state=1, force=False)
    held = claim_split(worker="w")
    assert held is not None

    disable_account(account=account)
    kept = (renew_split(held), held_split(held).exists())
    none, counted = claim_split(worker="w"), count_work(most=9)
    enable_account(account=account)
    again = claim_split(worker="w")

    assert kept == (False, False)
    assert (none, counted) == (None, 0)
    assert again is not None
    assert again.split_attempt == held.split_attempt + 1
    assert not held_split(held).exists()


def test_all_that_waited_is_done_after_it_is_enabled() -> None:
    account = make_account()
    raw_data = make_raw_data(account)
    request_split(raw_data=raw_data, held_out_test=0.2, random_state=1, force=False)
    make_fold(account, raw_data)
    disable_account(account=account)
    work()
    before = RawData.objects.get().state, SubmissionFold.objects.get().state

    enable_account(account=account)
    work()

    assert before == ("SPLITTING", "TODO")
    assert (RawData.objects.get().state, SubmissionFold.objects.get().state) == ("READY", "TESTED")


def test_admin_form_does_the_same(root: Client) -> None:
    account = make_account()
    make_fold(account, make_ready_dataset(account))
    held = claim_fold(worker="w")
    assert held is not None

    save_admin_form(root, account, is_active=False)
    stopped = renew_fold(held), claim_fold(worker="w")
    save_admin_form(root, account, is_active=True)

    assert stopped == (False, None)
    assert claim_fold(worker="w") == held


def test_saving_an_enabled_account_stops_nothing(root: Client) -> None:
    account = make_account()
    make_fold(account, make_ready_dataset(account))
    held = claim_fold(worker="w")
    assert held is not None

    save_admin_form(root, account, is_active=True)

    assert renew_fold(held)


def test_commands_disable_and_enable() -> None:
    make_account("ada")
    output = StringIO()
    states = []

    for command in ("disableuser", "enableuser"):
        call_command(command, "ada", stdout=output)
        states.append(User.objects.get().is_active)

    assert states == [False, True]
    assert output.getvalue() == "Disabled the account ada.\nEnabled the account ada.\n"
    with pytest.raises(CommandError, match="no account"):
        call_command("disableuser", "eve")


def test_superuser_is_told_why_its_folds_wait() -> None:
    ada = make_account("ada")
    superuser = make_client(make_account("root", is_superuser=True))
    fold = make_fold(ada, make_ready_dataset(ada))
    make_live_worker(broken=[])
    path = "/runapp/submissionfold/?fields=waiting_because"
    before = superuser.get(path)

    disable_account(account=ada)
    after = superuser.get(path, headers={"If-None-Match": before["ETag"]})
    one = superuser.get("/runapp/submissionfold/11/").json()
    fold.refresh_from_db()

    assert read_rows(before)[0]["waiting_because"] == "behind_others"
    assert read_rows(after)[0]["waiting_because"] == "account_disabled"
    assert (one["waiting_because"], one["queue_position"]) == ("account_disabled", None)
    assert read_rows(superuser.get(f"{path}&owner=ada"))[0]["waiting_because"] == "account_disabled"


def test_others_stand_further_ahead_meanwhile() -> None:
    ada, bob = make_account("ada"), make_account("bob")
    make_fold(ada, make_ready_dataset(ada), priority="H")
    fold = make_fold(bob, make_ready_dataset(bob))
    numbers = []

    for change in (enable_account, disable_account):
        change(account=ada)
        position = find_position(SubmissionFold.objects.get(pk=fold.pk))
        numbers.append(position and position.number)

    assert numbers == [2, 1]


def test_list_of_all_folds_asks_no_more_for_disabled_accounts() -> None:
    ada = make_account("ada")
    superuser = make_client(make_account("root", is_superuser=True))
    make_fold(ada, make_ready_dataset(ada))
    path = "/runapp/submissionfold/?fields=waiting_because"
    superuser.get(path)
    counts = []

    for change in (enable_account, disable_account):
        change(account=ada)
        with CaptureQueriesContext(connection) as queries:
            superuser.get(path).getvalue()
        counts.append(len(queries))

    assert counts[0] == counts[1]
