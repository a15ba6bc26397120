"""The settings of production: `check --deploy`, TLS, and scripts of other origins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
ORIGIN = "https://front.example.org"
# Prints the answers to some requests that need no database.
ASK = """
import json, sys
import django
django.setup()
from django.test import Client

answers = []
for method, path, headers, is_secure in json.load(sys.stdin):
    client = Client(SERVER_NAME="localhost")
    answer = client.generic(method, path, headers=headers, secure=is_secure)
    cookies = {name: dict(morsel) for name, morsel in answer.cookies.items()}
    answers.append([answer.status_code, dict(answer.headers), cookies])
json.dump(answers, sys.stdout)
"""


def read_example() -> dict[str, str]:
    """Return the variables of deploy/environment.example."""
    lines = (PROJECT / "deploy" / "environment.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def run(*words: str, home: Path, environment: Mapping[str, str], asked: str = "") -> str:
    done = run_to_its_end(*words, home=home, environment=environment, asked=asked)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr if words[0] == "manage.py" else done.stdout


def run_to_its_end(
    *words: str, home: Path, environment: Mapping[str, str], asked: str = ""
) -> subprocess.CompletedProcess[str]:
    names = ("PATH", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
    return subprocess.run(
        [sys.executable, *words],
        cwd=PROJECT,
        env={
            **{name: os.environ[name] for name in names if name in os.environ},
            "DJANGO_SETTINGS_MODULE": "datarun.settings",
            **environment,
            "DATARUN_HOME": str(home),
        },
        input=asked,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def ask(
    *questions: tuple[str, str, dict[str, str], bool], home: Path, **environment: str
) -> list[Any]:
    """Return status, headers and cookies of each answer, under settings of their own."""
    answers: list[Any] = json.loads(
        run("-c", ASK, home=home, environment=environment, asked=json.dumps(questions))
    )
    return answers


def test_deployment_check_of_the_production_profile_is_clean(tmp_path: Path) -> None:
    environment = {**read_example(), "DATARUN_SECRET_KEY": "0123456789abcdefghij" * 3}

    output = run(
        "manage.py",
        "check",
        "--deploy",
        "--fail-level",
        "INFO",
        home=tmp_path,
        environment=environment,
    )

    assert output.startswith("System check identified no issues")
    assert "WARNINGS" not in output


@pytest.mark.parametrize("command", ["migrate", "serve"])
def test_database_that_is_away_is_told_in_a_sentence(tmp_path: Path, command: str) -> None:
    environment = {
        "DATABASE_URL": "postgres://datarun:hush@127.0.0.1:1/datarun",
        "DATARUN_STORAGE_URL": f"file://{tmp_path}/storage",
        "DATARUN_SLOTS": "0",
    }

    done = run_to_its_end("manage.py", command, home=tmp_path, environment=environment)

    assert done.returncode == 1
    assert done.stderr.startswith("The database does not answer: ")
    assert len(done.stderr.splitlines()) == 1


def test_deployment_check_tells_what_is_missing(tmp_path: Path) -> None:
    output = run("manage.py", "check", "--deploy", home=tmp_path, environment={})

    for code in ("W004", "W008", "W012", "W016"):
        assert f"security.{code}" in output


@pytest.mark.parametrize(
    ("tls", "status", "is_secure"), [("on", 301, True), ("", 401, False)], ids=["on", "off"]
)
def test_tls_redirects_sends_hsts_and_keeps_cookies_to_itself(
    tmp_path: Path, tls: str, status: int, is_secure: bool
) -> None:
    forwarded = {"X-Forwarded-Proto": "https"}

    plain, secure, form = ask(
        ("GET", "/runapp/rawdata/", {}, False),
        ("GET", "/runapp/rawdata/", forwarded, False),
        ("GET", "/admin/login/", forwarded, False),
        home=tmp_path,
        DATARUN_TLS=tls or "off",
    )

    assert plain[0] == status
    assert plain[1].get("Location", "").startswith("https://localhost/") == is_secure
    assert secure[0] == 401
    assert ("Strict-Transport-Security" in secure[1]) == is_secure
    cookie = form[2]["csrftoken"]
    assert (bool(cookie["secure"]), cookie["samesite"]) == (is_secure, "Lax")


def test_session_cookie_is_kept_from_scripts_and_ends() -> None:
    from datarun import settings

    assert settings.SESSION_COOKIE_HTTPONLY is True
    assert settings.SESSION_COOKIE_SAMESITE == "Lax"
    assert settings.SESSION_COOKIE_AGE <= 24 * 3600


QUESTIONS = (
    (
        "OPTIONS",
        "/runapp/tokens/",
        {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"},
        False,
    ),
    ("GET", "/runapp/rawdata/", {"Origin": ORIGIN}, False),
    ("GET", "/runapp/rawdata/", {"Origin": "https://evil.example.org"}, False),
    ("GET", "/admin/login/", {"Origin": ORIGIN}, False),
)


def test_other_origins_are_told_nothing_unless_set(tmp_path: Path) -> None:
    answers = ask(*QUESTIONS, home=tmp_path)

    for _, headers, _ in answers:
        assert not [name for name in headers if name.lower().startswith("access-control")]


def test_named_origin_may_ask_the_api_without_cookies(tmp_path: Path) -> None:
    preflight, asked, foreign, admin = ask(*QUESTIONS, home=tmp_path, DATARUN_CORS_ORIGINS=ORIGIN)

    for status, headers, _ in (preflight, asked):
        assert status in (200, 401)
        assert headers["access-control-allow-origin"] == ORIGIN
        assert "access-control-allow-credentials" not in headers
    allowed = preflight[1]["access-control-allow-headers"]
    assert {"authorization", "if-none-match", "prefer"} <= set(allowed.split(", "))
    exposed = set(asked[1]["access-control-expose-headers"].split(", "))
    assert {"Link", "Datarun-Cursor", "ETag", "Retry-After", "Preference-Applied"} <= exposed
    assert {"RateLimit", "RateLimit-Policy", "Location"} <= exposed
    assert "access-control-allow-origin" not in foreign[1]
    assert "access-control-allow-origin" not in admin[1]
