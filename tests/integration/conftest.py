"""A storage of its own for each test, accounts, and nothing slow that no test here is about."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection

from runapp.audit import sign_ins
from runapp.models import RawData
from tests.factories import make_account, make_ready_dataset


@pytest.fixture(autouse=True)
def storage(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    # No test pulls the plug, and a dozen waits for the disk would be most of a test's time.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    # WhiteNoise otherwise looks through all static files for every client that a test makes.
    settings.WHITENOISE_AUTOREFRESH = True
    settings.STORAGE_ROOT = tmp_path / "storage"
    return settings.STORAGE_ROOT


@pytest.fixture(autouse=True)
def no_sign_ins() -> None:
    # The accounts of another test had the same keys.
    sign_ins.forget()


@pytest.fixture
def ada() -> User:
    return make_account("ada")


@pytest.fixture
def iris(ada: User) -> RawData:
    return make_ready_dataset(ada)


@pytest.fixture
def operator() -> User:
    account = make_account("olga")
    account.groups.add(Group.objects.get_or_create(name="operators")[0])
    return account


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is about PostgreSQL where the tests are not run on it."""
    if connection.vendor == "postgresql":
        return
    others = [item for item in items if item.get_closest_marker("postgresql")]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]
