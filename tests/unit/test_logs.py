"""Log lines: for people or for machines, with what they belong to, and without secrets."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from datarun.environment import list_secrets, read_log_form
from datarun.logs import Form, make_formatter
from runapp.common.log_context import accept_request_id, following, get_request_id


def make_record(sentence: str, *args: object, **fields: Any) -> logging.LogRecord:
    record = logging.LogRecord("runapp.part", logging.WARNING, "part.py", 1, sentence, args, None)
    record.__dict__.update(fields)
    return record


def write_json(record: logging.LogRecord, **options: Any) -> dict[str, Any]:
    text = make_formatter(form=Form.JSON, **options).format(record)
    assert "\n" not in text
    line: dict[str, Any] = json.loads(text)
    return line


def write_text(record: logging.LogRecord, **options: Any) -> str:
    return make_formatter(form=Form.TEXT, **options).format(record)


def test_line_for_machines_is_one_json_object() -> None:
    line = write_json(make_record("fold %s: %s", 17, "two\nlines", outcome="tested"))

    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "runapp.part",
        "event": "fold 17: two\nlines",
        "outcome": "tested",
    }


def test_line_for_people_is_as_it_ever_was() -> None:
    text = write_text(make_record("fold %s attempt %s: %s", 17, 1, "tested", outcome="tested"))

    moment, _, rest = text.partition("Z ")
    assert len(moment) == len("2026-11-22T08:17:04.123")
    assert rest == "WARNING runapp.part: fold 17 attempt 1: tested"


@pytest.mark.parametrize("write", [write_text, lambda record: json.dumps(write_json(record))])
def test_line_carries_what_is_in_hand(write: Any) -> None:
    with following(request="abc123", keeper=99, task=None):
        inside = write(make_record("something"))
    outside = write(make_record("something"))

    assert "abc123" in inside
    assert "99" in inside
    assert "task" not in inside
    assert "abc123" not in outside


def test_stack_trace_is_a_field_or_follows_the_line() -> None:
    record = make_record("it failed")
    try:
        raise ValueError("no such thing")
    except ValueError:
        record.exc_info = sys.exc_info()

    assert "ValueError: no such thing" in write_json(record)["exception"]
    assert write_text(record).splitlines()[1].startswith("Traceback")


def test_what_libraries_attach_stays_out() -> None:
    attached = {"data": {"args": "participants'"}, "status_code": 500, "request": "GET /?secret"}

    with following(request="abc123"):
        line = write_json(make_record("it failed", **attached))

    assert set(line) == {"time", "level", "logger", "event", "request"}
    assert line["request"] == "abc123"


@pytest.mark.parametrize(
    ("sentence", "hidden"),
    [
        ("no answer from amqp://guest:guest@127.0.0.1//", "guest:guest"),
        ("no answer from redis://:hush@127.0.0.1/0", "hush"),
        ("refused: Authorization: Basic YWRhOmh1c2g9PQ==", "YWRhOmh1c2g9PQ"),
        ("refused: Authorization: Token 0123456789abcdef", "0123456789abcdef"),
        ("refused: Authorization: Bearer 0123.4567-89", "0123.4567-89"),
        ("the key is very-secret-key.", "very-secret-key"),
    ],
)
def test_secrets_are_hidden(sentence: str, hidden: str) -> None:
    secrets = ["very-secret-key", "key"]

    assert hidden in sentence
    assert hidden not in write_text(make_record(sentence), secrets=secrets)
    assert hidden not in json.dumps(write_json(make_record(sentence), secrets=secrets))


def test_secrets_that_json_writes_otherwise_are_hidden() -> None:
    record = make_record('refused: pass"wörd-17')

    assert write_json(record, secrets=['pass"wörd-17'])["event"] == "refused: ***"


def test_secrets_in_a_stack_trace_are_hidden() -> None:
    record = make_record("it failed")
    try:
        raise ValueError("postgres://datarun:hush@db.example.org/datarun")
    except ValueError:
        record.exc_info = sys.exc_info()

    assert "hush" not in write_text(record)
    assert "hush" not in json.dumps(write_json(record))


def test_words_are_no_secrets() -> None:
    assert "datarun" in write_text(make_record("datarun starts"), secrets=["datarun"])


def test_secrets_are_found_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://datarun:a%2Fb@db:5432/datarun")
    monkeypatch.setenv("CELERY_BROKER_URL", "amqp://datarun:first@a//;amqp://datarun:second@b//")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "third")
    monkeypatch.setenv("DATARUN_CACHE_URL", "redis://:fourth@cache:6379/0")
    monkeypatch.delenv("DATARUN_SECRET_KEY", raising=False)
    monkeypatch.delenv("DATARUN_METRICS_TOKEN", raising=False)

    assert set(list_secrets()) == {"a%2Fb", "a/b", "first", "second", "third", "fourth"}


@pytest.mark.parametrize(
    ("given", "url", "form"),
    [
        ("", "", Form.TEXT),
        ("", "sqlite:////tmp/x.sqlite3", Form.TEXT),
        ("", "postgres://db/datarun", Form.JSON),
        ("text", "postgres://db/datarun", Form.TEXT),
        ("json", "", Form.JSON),
    ],
)
def test_form_follows_the_database_unless_it_is_given(
    given: str, url: str, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATARUN_LOG_FORMAT", given)
    monkeypatch.setenv("DATABASE_URL", url)

    assert read_log_form() is form


def test_form_that_is_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATARUN_LOG_FORMAT", "xml")

    with pytest.raises(ImproperlyConfigured, match="DATARUN_LOG_FORMAT must be one of: text, json"):
        read_log_form()


@pytest.mark.parametrize("given", ["a", "0f6b.A-z_9", "x" * 64])
def test_sane_request_id_is_taken(given: str) -> None:
    assert accept_request_id(given) == given


@pytest.mark.parametrize("given", [None, "", "x" * 65, "two words", "a\nb", "<script>", "-", "é"])
def test_any_other_request_id_is_replaced(given: str | None) -> None:
    made = accept_request_id(given)

    assert made != given
    assert accept_request_id(made) == made
    assert accept_request_id(given) != made


def test_request_id_is_known_within_the_request_only() -> None:
    with following(request="abc"):
        assert get_request_id() == "abc"
    assert get_request_id() == ""
