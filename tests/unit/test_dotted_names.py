"""Names that stand in texts, which no linter follows, lead to what they name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from celery.utils.imports import symbol_by_name
from django.apps import apps
from django.conf import settings
from django.core.signing import Signer
from django.db.migrations.loader import MigrationLoader
from django.utils.module_loading import import_string

from datarun.celery import app
from runapp.lists.cursors import Cursor, decode_cursor
from runapp.scheduling import dispatch

PROJECT = Path(__file__).resolve().parents[2]
# Messages of these names may wait in a broker while an installation is brought up to date.
TASKS = {"runapp.tasks.work", "runapp.tasks.reap"}
_DOTTED = re.compile(r"(?:datarun|runapp)(?:\.\w+)+(?::\w+)?")


def list_texts(value: Any) -> Iterator[str]:
    """Yield the texts of a setting, however deep."""
    if type(value) is str:  # a lazy one passes for it
        yield value
    elif isinstance(value, dict):
        for each in (*value.keys(), *value.values()):
            yield from list_texts(each)
    elif isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield from list_texts(each)


def list_names_of_settings() -> list[str]:
    values = [getattr(settings, name) for name in dir(settings) if name.isupper()]
    return sorted({text for text in list_texts(values) if _DOTTED.fullmatch(text)} - TASKS)


def find(name: str) -> Any:
    """Return what a dotted name leads to: a module, what one holds, or a model."""
    try:
        return import_module(name)
    except ImportError:
        pass
    try:
        return symbol_by_name(name) if ":" in name else import_string(name)
    except ImportError:
        return apps.get_model(name)


def test_settings_name_what_is_there() -> None:
    names = list_names_of_settings()

    assert "runapp.http.exception_handler.handle_exception" in names
    assert len(names) > 10
    for name in names:
        assert find(name) is not None, name


def test_tasks_keep_the_names_under_which_messages_wait() -> None:
    app.loader.import_default_modules()

    assert set(app.tasks) >= TASKS
    assert dispatch.TASK_NAME in TASKS
    assert {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()} <= TASKS


def test_worker_finds_its_ticker() -> None:
    (name,) = [step for step in app.steps["worker"] if "runapp" in str(step)]

    assert symbol_by_name(name).requires


def test_cursors_that_clients_hold_are_read() -> None:
    given = Signer(salt="runapp.cursors").sign_object(["rawdata:1:1", "0123456789abcdef", 7, 3, 9])

    cursor = decode_cursor(given, topic="rawdata:1:1", field="updated_since")

    assert cursor == Cursor("rawdata:1:1", "0123456789abcdef", seq=7, pk=3, after=9)


@pytest.mark.django_db
def test_migrations_load_and_end_in_one() -> None:
    loader = MigrationLoader(None)

    (leaf,) = loader.graph.leaf_nodes("runapp")
    assert apps.get_app_config("runapp").get_model("RawData")
    assert loader.project_state([leaf]).apps.get_model("runapp", "SubmissionFold")


def test_migrations_name_what_is_there() -> None:
    texts = [path.read_text() for path in (PROJECT / "runapp/migrations").glob("0*.py")]

    names = {name for text in texts for name in re.findall(r"\brunapp\.[a-z_.]+\.\w+", text)}
    names |= {name for text in texts for name in re.findall(r"^import (runapp[\w.]*)", text, re.M)}

    assert "runapp.models.make_storage_key" in names
    for name in names:
        assert find(name.removesuffix(".")) is not None, name


def test_changelog_leads_from_old_modules_to_new_ones() -> None:
    text = (PROJECT / "CHANGELOG.md").read_text()
    moved = re.findall(r"^  \| `(runapp\.[\w.]+)` \| `(runapp\.[\w.]+)` \|$", text, re.M)
    split = re.findall(r"^  \| `runapp\.[\w.]+` \| (`.*`) \| `(runapp\.[\w.]+)` \|$", text, re.M)

    assert len(moved) > 100
    assert split
    for _, module in moved:
        assert import_module(module)
    for names, module in split:
        for name in re.findall(r"`(\w+)`", names):
            assert hasattr(import_module(module), name), f"{module}.{name}"
