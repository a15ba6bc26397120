"""createuser and createtoken."""

from __future__ import annotations

from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from knox.auth import TokenAuthentication
from knox.models import AuthToken

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


@pytest.mark.parametrize(
    ("name", "email", "password", "words"),
    [
        pytest.param("a b", "a@example.org", PASSWORD, "valid username", id="name-with-space"),
        pytest.param("", "a@example.org", PASSWORD, "cannot be blank", id="no-name"),
        pytest.param("a" * 151, "a@example.org", PASSWORD, "at most 150", id="long-name"),
        pytest.param("ada", "nobody", PASSWORD, "valid email", id="bad-email"),
        pytest.param("ada", "a@example.org", "x7-Qz", "too short", id="short-password"),
        pytest.param("ada", "a@example.org", "password1", "too common", id="common-password"),
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

    assert not AuthToken.objects.filter(user=user).exists()
