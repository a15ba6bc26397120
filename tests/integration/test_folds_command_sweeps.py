"""`manage.py folds` with a deed: it tells, asks, and does it to all that fit."""

from __future__ import annotations

from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError

from runapp.models import RawData, SubmissionFold
from runapp.models.audit import AuditEvent
from tests.factories import finish_fold, make_fold

pytestmark = pytest.mark.django_db


class Terminal(StringIO):
    """Somebody who types."""

    def isatty(self) -> bool:
        return True


def run_folds(*words: str) -> str:
    out = StringIO()
    call_command("folds", *words, stdout=out, stderr=out)
    return out.getvalue()


def list_folds() -> list[tuple[int, str, str]]:
    rows = SubmissionFold.objects.order_by("pk")
    return list(rows.values_list("databoard_sf_id", "phase", "priority"))


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (["--cancel"], [(11, "done", "L"), (12, "done", "L"), (13, "done", "H")]),
        (["--rerun"], [(11, "waiting", "L"), (12, "waiting", "L"), (13, "waiting", "H")]),
        (["--set-priority", "H"], [(11, "done", "L"), (12, "waiting", "H"), (13, "waiting", "H")]),
        (
            ["--set-priority", "L", "--priority", "H"],
            [(11, "done", "L"), (12, "waiting", "L"), (13, "waiting", "L")],
        ),
        (
            ["--cancel", "--priority", "H"],
            [(11, "done", "L"), (12, "waiting", "L"), (13, "done", "H")],
        ),
    ],
)
def test_deed_is_done_to_all_that_fit_and_can_have_it_done(
    words: list[str], left: list[tuple[int, str, str]], ada: User, iris: RawData
) -> None:
    finish_fold(ada, iris, databoard_sf_id=11)
    make_fold(ada, iris, databoard_sf_id=12)
    make_fold(ada, iris, databoard_sf_id=13, priority="H")

    out = run_folds(*words, "--yes")

    assert list_folds() == left
    assert " done, 0 not done." in out
    assert AuditEvent.objects.filter(kind="submission_fold", via="command").exists()


def test_what_is_meant_and_how_many_fit_is_told(ada: User, iris: RawData) -> None:
    finish_fold(ada, iris)
    make_fold(ada, iris, databoard_sf_id=12)

    some, every = run_folds("--cancel", "--owner", "ada", "--yes"), run_folds("--cancel", "--yes")

    assert "Searched for: owner ada." in some
    assert "Matching folds: 2. The action applies to 1 of them." in some
    assert "nothing, so these are all folds of all accounts" in every
    assert "The action applies to 0 of them." in every


def test_nobody_can_be_asked_without_a_terminal(
    ada: User, iris: RawData, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_fold(ada, iris)
    monkeypatch.setattr("sys.stdin", StringIO("yes\n"))

    with pytest.raises(CommandError, match=r"no terminal to ask for confirmation\. Use --yes"):
        run_folds("--cancel")

    assert list_folds() == [(11, "waiting", "L")]


@pytest.mark.parametrize(
    ("typed", "phase"),
    [("y\n", "done"), ("yes\n", "done"), ("n\n", "waiting"), ("\n", "waiting"), ("", "waiting")],
)
def test_who_sits_at_a_terminal_is_asked(
    typed: str, phase: str, ada: User, iris: RawData, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_fold(ada, iris)
    monkeypatch.setattr("sys.stdin", Terminal(typed))

    if phase == "done":
        run_folds("--cancel")
    else:
        with pytest.raises(CommandError, match=r"Nothing was done\."):
            run_folds("--cancel")

    assert list_folds() == [(11, phase, "L")]


def test_what_was_refused_is_told_and_the_command_fails(ada: User, iris: RawData) -> None:
    for number in (11, 12):
        finish_fold(ada, iris, databoard_sf_id=number)
    RawData.objects.update(state="ERROR")
    out = StringIO()

    with pytest.raises(CommandError, match=r"2 folds were refused\."):
        call_command("folds", "--rerun", "--yes", stdout=out, stderr=out)

    assert "0 done, 2 not done." in out.getvalue()
    assert "2 not done: Its dataset's split has failed." in out.getvalue()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--cancel", "--state", "asleep"], '"asleep" is not a valid state'),
        (["--cancel", "--owner", "eve"], 'There is no account "eve".'),
        (["--cancel", "--owner", ""], "--owner is empty"),
        (["--cancel", "--error-code", ""], "--error-code is empty"),
        (["--cancel", "--limit", "1"], "--limit and --json only apply to the list"),
        (["--rerun", "--json"], "--limit and --json only apply to the list"),
        (["--cancel", "--rerun"], "not allowed with argument --cancel"),
        (["--set-priority", "X"], r'"X" is not a valid priority \(use H or L\)'),
        ([], "--yes can only be used with --cancel, --rerun or --set-priority."),
    ],
)
def test_words_that_cannot_be_meant_do_nothing(
    words: list[str], why: str, ada: User, iris: RawData
) -> None:
    make_fold(ada, iris)

    with pytest.raises(CommandError, match=why):
        run_folds(*words, "--yes")

    assert list_folds() == [(11, "waiting", "L")]
