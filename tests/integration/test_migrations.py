"""A database of an older schema, with rows in it, becomes one of this release."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functional import profiles

PROJECT = Path(__file__).resolve().parents[2]
SCRIPT = "tests.integration.old_database"


pytestmark = pytest.mark.any_database
ON_POSTGRES = pytest.param("postgres", marks=[pytest.mark.service, pytest.mark.full])


@pytest.fixture(params=["sqlite", ON_POSTGRES])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'old.sqlite3'}"
    else:
        with profiles.postgres() as environment:
            yield environment["DATABASE_URL"]


def run(*words: str, database_url: str, home: Path) -> str:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=PROJECT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "datarun.settings",
            "DATABASE_URL": database_url,
            "DATARUN_HOME": str(home),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_rows_of_the_second_schema_are_kept_and_filled_up(
    database_url: str, tmp_path: Path
) -> None:
    found: dict[str, Any] = json.loads(
        run("-m", SCRIPT, database_url=database_url, home=tmp_path / "home")
    )

    kept = {"raw_data": "iris", "train_is": "00ff"}
    assert found["folds"] == [
        {"number": 11, "rank": 0, "state": "TODO", **kept},
        {"number": 12, "rank": 1, "state": "TESTED", **kept},
        {"number": 13, "rank": 2, "state": "TODO", **kept},
    ]
    assert found["n_posted"] == [3, 0]
    assert found["tokens"] == [["token 1", False, 16], ["token 2", True, 16]]
    assert (found["holder"], found["is_old_table_left"], found["n_left"]) == ("bob", False, 0)
    assert found["attempts"] == [[1, "lost", True, 0], [2, "tested", True, 0]]
