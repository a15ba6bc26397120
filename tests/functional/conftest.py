"""The services that the functional tests share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Protocol

import pytest

from tests.functional import profiles
from tests.functional.account import Account
from tests.functional.service import Service, serving

# Small caps that no honest fold of these tests comes near.
EMBEDDED = {
    "DATARUN_SLOTS": "3",
    "DATARUN_MAX_PREDICTIONS_MB": "8",
    "DATARUN_SPLIT_WALL_SECONDS": "8",
    # Some tests send nothing but wrong passwords, from the one address that all tests have.
    "DATARUN_SIGN_IN_FAILURES": "1000000",
}


class Serve(Protocol):
    """Starts a service of the module's own."""

    def __call__(
        self, name: str, environment: Mapping[str, str], *, is_calm: bool = True
    ) -> Service: ...


@pytest.fixture(scope="session")
def embedded_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """SQLite and the filesystem broker, for all modules."""
    with serving(tmp_path_factory.mktemp("embedded"), EMBEDDED) as service:
        yield service


@pytest.fixture(scope="module")
def production_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """PostgreSQL and RabbitMQ, where they answer."""
    with (
        profiles.production() as environment,
        serving(tmp_path_factory.mktemp("production"), environment) as service,
    ):
        yield service


@pytest.fixture(scope="module")
def redis_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """SQLite and Redis, where it answers."""
    with (
        profiles.redis() as environment,
        serving(tmp_path_factory.mktemp("redis"), environment) as service,
    ):
        yield service


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Return a function that starts a service of the module's own, ended with the module."""
    with ExitStack() as stack:

        def start(name: str, environment: Mapping[str, str], *, is_calm: bool = True) -> Service:
            folder = tmp_path_factory.mktemp(name)
            return stack.enter_context(serving(folder, environment, is_calm=is_calm))

        yield start


@pytest.fixture(scope="module")
def account(request: pytest.FixtureRequest, embedded_service: Service) -> Account:
    """An account of the module's own on the embedded service."""
    name: str = request.module.__name__.rpartition(".")[2].removeprefix("test_")
    return embedded_service.make_account(name)
