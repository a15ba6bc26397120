"""What holds for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.effort import CHAOS_SEED
from tests.object_server import CREDENTIALS, ObjectServer, serving_objects

# Their asserts explain themselves as those of the tests do.
pytest.register_assert_rewrite(
    "tests.functional.account",
    "tests.functional.chaos.client",
    "tests.functional.chaos.verdict",
    "tests.functional.service",
)


@pytest.fixture(scope="session")
def shared_object_server() -> Iterator[ObjectServer]:
    """An S3-compatible server, for all tests that leave it running."""
    with serving_objects() as server:
        yield server


@pytest.fixture
def object_server(
    shared_object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> ObjectServer:
    """The server, with its credentials in the environment of this test."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return shared_object_server


def pytest_report_header() -> str:
    """Tell with what the chaos of this run can be repeated."""
    return f"DATARUN_CHAOS_SEED={CHAOS_SEED}"
