"""Commands about accounts and their tokens."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from django.utils import timezone
from knox.auth import TokenAuthentication

from runapp.models import AccessToken
from tests.factories import make_client, make_token

pytestmark = pytest.mark.django_db

PASSWORD = "Tr0ubadour-of-7"


def run(*arguments: str) -> str:
    output = StringIO()
    call_command(*arguments, stdout=output)
    return output.getvalue()


@pytest.mark.parametrize(
    ("flags", "is_superuser"), [((), False), (("--superuser",), True)], ids=["user", "superuser"]
)
def test_createuser_makes_an_account_that_can_log_in(
    flags: tuple[str, ...], is_superuser: bool
) -> None:
    output = run("createuser", "ada", "ada@example.org", PASSWORD, *flags)

    user = User.objects.get(username="ada")
    assert user.check_password(PASSWORD)
    assert user.email == "ada@example.org"
    assert (user.is_superuser, user.is_staff, user.is_active) == (is_superuser, is_superuser, True)
    assert output == f"Created the {'superuser' if is_superuser else 'user'} ada.\n"


def test_createuser_makes_operators_and_their_group() -> None:
    outputs = [
        run("createuser", name, f"{name}@example.org", PASSWORD, "--operator")
        for name in ("ada", "bob")
    ]

    client = make_client(User.objects.get(username="bob"), password=PASSWORD)
    assert client.get("/runapp/account/").json()["is_operator"] is True
    assert outputs == ["Created the operator ada.\n", "Created the operator bob.\n"]
    assert list(Group.objects.values_list("name", "user__username").order_by("user")) == [
        ("operators", "ada"),
        ("operators", "bob"),
    ]


def test_createuser_makes_either_an_operator_or_a_superuser() -> None:
    with pytest.raises(CommandError, match="not allowed with argument"):
        run("createuser", "ada", "ada@example.org", PASSWORD, "--operator", "--superuser")

    assert not User.objects.exists()


def test_createuser_makes_no_operator_where_no_group_is_named(settings: Any) -> None:
    settings.OPERATORS_GROUP = ""

    with pytest.raises(CommandError, match="DATARUN_OPERATORS is empty"):
        run("createuser", "ada", "ada@example.org", PASSWORD, "--operator")

    assert not User.objects.exists()


@pytest.mark.parametrize(
    ("name", "email", "password", "words"),
    [
        pytest.param("a b", "a@example.org", PASSWORD, "valid username", id="name-with-space"),
        pytest.param("", "a@example.org", PASSWORD, "cannot be blank", id="no-name"),
        pytest.param("a" * 151, "a@example.org", PASSWORD, "at most 150", id="long-name"),
        pytest.param("ada", "nobody", PASSWORD, "valid email", id="bad-email"),
        pytest.param("ada", "a@example.org", "x7-Qz", "too short", id="short-password"),
        pytest.param("ada", "a@example.org", "x7-Qzr4bK", "at least 10", id="nine-characters"),
        pytest.param("ada", "a@example.org", "4711081519", "entirely numeric", id="digits"),
        pytest.param("ada.lovelace", "a@x.org", "lovelace.ada", "too similar", id="like-the-name"),
        pytest.param("ada", "a@example.org", "password12", "too common", id="common-password"),
    ],
)
def test_createuser_refuses(name: str, email: str, password: str, words: str) -> None:
    with pytest.raises(CommandError, match=words):
        run("createuser", name, email, password)

    assert not User.objects.exists()


def test_createuser_accepts_a_name_of_150_characters() -> None:
    run("createuser", "a" * 150, "a@example.org", PASSWORD)

    assert User.objects.filter(username="a" * 150).exists()


def test_createuser_refuses_a_taken_name() -> None:
    run("createuser", "ada", "ada@example.org", PASSWORD)

    with pytest.raises(CommandError, match="taken"):
        run("createuser", "ada", "other@example.org", PASSWORD)

    assert User.objects.get().email == "ada@example.org"


def test_createtoken_prints_a_key_that_authenticates_and_nothing_else() -> None:
    run("createuser", "ada", "ada@example.org", PASSWORD)

    output = run("createtoken", "ada")

    key = output.removesuffix("\n")
    assert key.isalnum()
    user, token = TokenAuthentication().authenticate_credentials(key.encode())
    assert user.get_username() == "ada"
    assert token.expiry is None


def test_createtoken_makes_a_new_token_each_time() -> None:
    run("createuser", "ada", "ada@example.org", PASSWORD)

    assert run("createtoken", "ada") != run("createtoken", "ada")


def test_createtoken_refuses_an_unknown_account() -> None:
    with pytest.raises(CommandError, match="no account 'ada'"):
        run("createtoken", "ada")


def test_createtoken_refuses_a_disabled_account() -> None:
    user = User.objects.create_user("ada", "ada@example.org", PASSWORD)
    User.objects.filter(pk=user.pk).update(is_active=False)

    with pytest.raises(CommandError, match="disabled"):
        run("createtoken", "ada")

    assert not AccessToken.objects.filter(user=user).exists()


def test_createtoken_gives_it_a_name_and_an_end() -> None:
    User.objects.create_user("ada")

    run("createtoken", "ada", "--name", "nightly 夜", "--days", "7")
    run("createtoken", "ada")

    named, numbered = AccessToken.objects.order_by("created")
    assert (named.name, numbered.name) == ("nightly 夜", "token 2")
    assert named.expiry is not None
    assert round((named.expiry - timezone.now()).total_seconds() / 86_400, 2) == 7
    assert numbered.expiry is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--name", "taken"), "A token with this name already exists"),
        (("--name", "a\x1b[2Jb"), "Control characters"),
        (("--name", " "), "must not be blank"),
        (("--name", "x" * 101), "at most 100"),
        (("--days", "0"), "from 1 to 3650"),
        (("--days", "3651"), "from 1 to 3650"),
        (("--days", "one"), "from 1 to 3650"),
    ],
    ids=repr,
)
def test_createtoken_refuses(arguments: tuple[str, ...], words: str) -> None:
    make_token(User.objects.create_user("ada"), name="taken")

    with pytest.raises(CommandError, match=words):
        run("createtoken", "ada", *arguments)

    assert AccessToken.objects.count() == 1


def test_tokens_lists_what_has_not_expired_without_keys() -> None:
    account, now = User.objects.create_user("ada"), timezone.now()
    live, key = make_token(account, name="nightly", last_used_at=now)
    make_token(account, name="gone", expiry=now)
    make_token(User.objects.create_user("bob"), name="of bob")

    head, row = run("tokens", "ada").splitlines()

    assert head.split() == ["id", "name", "created", "expires", "last", "used"]
    assert row.split()[:2] == [live.public_id, "nightly"]
    assert row.endswith(f"-        {now:%Y-%m-%d %H:%M}Z")
    assert key[:15] not in row


def test_tokens_tells_when_there_is_none() -> None:
    User.objects.create_user("ada")

    assert run("tokens", "ada") == "No tokens.\n"


def test_revoketoken_revokes_that_one() -> None:
    account = User.objects.create_user("ada")
    token, kept = (make_token(account)[0] for _ in range(2))

    output = run("revoketoken", "ada", token.public_id)

    assert output == f"Revoked the token {token.public_id} of ada.\n"
    assert AccessToken.objects.get() == kept


def test_revoketoken_refuses_what_is_not_that_accounts() -> None:
    User.objects.create_user("ada")
    token, _ = make_token(User.objects.create_user("bob"))

    with pytest.raises(CommandError, match="no token"):
        run("revoketoken", "ada", token.public_id)

    assert AccessToken.objects.exists()
