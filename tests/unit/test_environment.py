"""Settings that the environment gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured
from psycopg_pool import ConnectionPool

from datarun.environment import (
    read_cache,
    read_database,
    read_flag,
    read_home,
    read_list,
    read_promises,
    read_quota,
    read_secret_key,
    read_static_root,
    read_text,
    read_whole_number,
)
from datarun.variables import VARIABLES
from runapp.runner.selftest.promises import DEFAULT_REQUIRED, Promise

NAME = "DATARUN_REQUIRED_PROMISES"


@pytest.mark.parametrize(
    ("text", "promises"),
    [
        pytest.param(None, DEFAULT_REQUIRED, id="not-set"),
        pytest.param("", frozenset(), id="empty"),
        pytest.param(" ", frozenset(), id="blank"),
        pytest.param("network", {Promise.NETWORK}, id="one"),
        pytest.param(" cpu , memory,cpu,", {Promise.CPU, Promise.MEMORY}, id="loosely-written"),
    ],
)
def test_promises_are_read(
    text: str | None, promises: set[Promise], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(NAME, raising=False)
    if text is not None:
        monkeypatch.setenv(NAME, text)

    assert read_promises(NAME, DEFAULT_REQUIRED) == promises


def test_promises_that_the_table_of_settings_tells_are_those_required() -> None:
    assert set(str(VARIABLES[NAME].default).split(",")) == set(DEFAULT_REQUIRED)


@pytest.mark.parametrize(
    ("text", "number"), [(None, 20), ("", 20), (" ", 20), ("2", 2), (" 300 ", 300)]
)
def test_number_is_read_or_its_default(
    text: str | None, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATARUN_LEASE_SECONDS", raising=False)
    if text is not None:
        monkeypatch.setenv("DATARUN_LEASE_SECONDS", text)

    assert read_whole_number("DATARUN_LEASE_SECONDS") == number


@pytest.mark.parametrize("text", ["1", "-2", "2.5", "two", "\u0662"])
def test_number_below_the_least_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATARUN_LEASE_SECONDS", text)

    with pytest.raises(ImproperlyConfigured, match="must be a whole number of at least 2"):
        read_whole_number("DATARUN_LEASE_SECONDS")


def test_number_without_a_default_takes_that_of_its_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATARUN_SLOTS", raising=False)

    assert read_whole_number("DATARUN_SLOTS", 7) == 7


@pytest.mark.parametrize(
    ("text", "flag"), [(None, False), ("", False), ("off", False), ("on", True)]
)
def test_flag_is_off_unless_it_is_turned_on(
    text: str | None, flag: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATARUN_TLS", raising=False)
    if text is not None:
        monkeypatch.setenv("DATARUN_TLS", text)

    assert read_flag("DATARUN_TLS") is flag


def test_list_is_read_or_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATARUN_ALLOWED_HOSTS", raising=False)
    by_default = read_list("DATARUN_ALLOWED_HOSTS")
    monkeypatch.setenv("DATARUN_ALLOWED_HOSTS", "a.example.org, b.example.org,")

    assert by_default == ["127.0.0.1", "localhost", "[::1]"]
    assert read_list("DATARUN_ALLOWED_HOSTS") == ["a.example.org", "b.example.org"]


def test_text_that_is_set_but_empty_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATARUN_OPERATORS", raising=False)
    by_default = read_text("DATARUN_OPERATORS")
    monkeypatch.setenv("DATARUN_OPERATORS", " ")

    assert (by_default, read_text("DATARUN_OPERATORS")) == ("operators", "")


def test_unknown_promises_are_refused_with_those_that_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(NAME, "network,flies,Files")

    with pytest.raises(ImproperlyConfigured) as caught:
        read_promises(NAME, DEFAULT_REQUIRED)

    assert str(caught.value) == (
        "DATARUN_REQUIRED_PROMISES has unknown promises: Files, flies. Allowed: network, files, "
        "labels, neighbours, processes, memory, cpu, scratch, kernel."
    )


def read_url(url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("DATABASE_URL", url)
    return read_database(home=Path("/nowhere"), web_threads=7)


def test_postgresql_neither_waits_nor_keeps_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    database = read_url("postgres://ada@db.example.org/datarun", monkeypatch)

    options = database["OPTIONS"]
    pool = options.pop("pool")
    assert (pool["min_size"], pool["max_size"]) == (0, 7)
    assert "CONN_MAX_AGE" not in database
    assert "-c lock_timeout=" in options["options"]
    assert "-c idle_in_transaction_session_timeout=" in options["options"]
    # libpq knows every name, the pool every option.
    psycopg.conninfo.make_conninfo("", **options)
    ConnectionPool("", open=False, **pool)


def test_query_of_the_url_goes_before(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgres://db.example.org/datarun?pool=3&connect_timeout=9&options=-c%20work_mem=8MB"

    options = read_url(url, monkeypatch)["OPTIONS"]

    assert options["pool"]["max_size"] == 3
    assert options["connect_timeout"] == 9
    assert options["options"] == "-c work_mem=8MB"
    assert options["keepalives"] == 1


@pytest.mark.parametrize("query", ["pool=0", "pgbouncer=1"])
def test_pool_can_be_left_out(query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = read_url(f"postgres://db.example.org/datarun?{query}", monkeypatch)["OPTIONS"]

    assert "pool" not in options


def test_pooler_before_postgresql_gets_nothing_that_needs_a_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database = read_url("postgres://db.example.org/datarun?pgbouncer=1", monkeypatch)

    assert database["DISABLE_SERVER_SIDE_CURSORS"] is True
    assert not {"options", "pgbouncer"} & set(database["OPTIONS"])


@pytest.mark.parametrize("size", ["many", "-1", "1.5"])
def test_pool_of_no_size_is_refused(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImproperlyConfigured, match="must be a whole number"):
        read_url(f"postgres://db.example.org/datarun?pool={size}", monkeypatch)


@pytest.mark.parametrize(
    "url",
    [
        "datarun",
        "mysql://db.example.org/datarun",
        "postgres://ada:secret@db.example.org:port/datarun",
        "postgres://ada:secret@[db.example.org/datarun",
    ],
)
def test_database_that_is_not_known_is_told_without_its_password(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL must look like") as caught:
        read_url(url, monkeypatch)

    assert "secret" not in str(caught.value)


def test_empty_variable_is_the_database_of_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_url("", monkeypatch)["NAME"] == "/nowhere/datarun.sqlite3"


def test_home_that_cannot_be_made_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATARUN_HOME", "/dev/null/home")

    with pytest.raises(ImproperlyConfigured, match="DATARUN_HOME cannot be created"):
        read_home(default=Path("/nowhere"))


def test_home_that_cannot_be_used_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATARUN_SECRET_KEY", raising=False)
    home = tmp_path / "home"
    home.write_text("a file where a folder should be")

    with pytest.raises(ImproperlyConfigured, match="DATARUN_HOME cannot be used"):
        read_secret_key(home=home)
    with pytest.raises(ImproperlyConfigured, match="DATARUN_HOME cannot be used"):
        read_static_root(home=home)


@pytest.mark.parametrize(
    ("text", "quota"), [(None, None), ("", None), (" ", None), ("0", 0), (" 200 ", 200)]
)
def test_quota_is_a_number_or_nothing(
    text: str | None, quota: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATARUN_QUOTA_FOLDS_PER_DAY", raising=False)
    if text is not None:
        monkeypatch.setenv("DATARUN_QUOTA_FOLDS_PER_DAY", text)

    assert read_quota("DATARUN_QUOTA_FOLDS_PER_DAY") == quota


def test_quota_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATARUN_QUOTA_STORED_MB", "-1")

    with pytest.raises(ImproperlyConfigured, match="DATARUN_QUOTA_STORED_MB must be a whole"):
        read_quota("DATARUN_QUOTA_STORED_MB")


def test_cache_is_in_memory_or_in_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATARUN_CACHE_URL", "")
    in_memory = read_cache()
    monkeypatch.setenv("DATARUN_CACHE_URL", "redis://127.0.0.1:6379/3")
    in_redis = read_cache()

    assert in_memory["BACKEND"].endswith("LocMemCache")
    assert in_redis["BACKEND"].endswith("RedisCache")
    assert in_redis["LOCATION"] == "redis://127.0.0.1:6379/3"


@pytest.mark.parametrize("url", ["memcached://127.0.0.1", "127.0.0.1:6379", "redis"])
def test_cache_of_another_kind_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATARUN_CACHE_URL", url)

    with pytest.raises(ImproperlyConfigured, match="redis://host"):
        read_cache()
