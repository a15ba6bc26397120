"""One cache and several processes of a machine: at once, and killed in the middle."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runapp.storage import Kind, RemoteStorage
from runapp.storage.cache import Cache
from runapp.storage.s3 import S3Objects
from tests.object_server import CREDENTIALS, ObjectServer

PROJECT = Path(__file__).resolve().parents[2]
MEGABYTE = 2**20
N_BLOBS, MAX_BYTES = 12, 5 * MEGABYTE
DEADLINE_SECONDS = 100

StartReader = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def prefix() -> str:
    return f"tests/{secrets.token_hex(6)}"


@pytest.fixture
def objects(object_server: ObjectServer, prefix: str) -> S3Objects:
    return S3Objects(object_server.locate(prefix))


@pytest.fixture
def digests(objects: S3Objects, tmp_path: Path) -> list[str]:
    """Blobs of a megabyte that another machine has stored."""
    cache = Cache(root=tmp_path / "another", max_bytes=MAX_BYTES)
    bin = RemoteStorage(objects=objects, cache=cache).get_bin("key")
    return [
        bin.write(kind=Kind.FEATURES, content=secrets.token_bytes(MEGABYTE)) for _ in range(N_BLOBS)
    ]


@pytest.fixture
def start_reader(
    object_server: ObjectServer, prefix: str, digests: list[str], tmp_path: Path
) -> StartReader:
    environment = {
        **os.environ,
        **CREDENTIALS,
        "DJANGO_SETTINGS_MODULE": "datarun.settings",
        "DATARUN_HOME": str(tmp_path / "home"),
    }

    def start(*, seed: int, n_rounds: int) -> subprocess.Popen[str]:
        numbers = (object_server.port, prefix, tmp_path / "cache", MAX_BYTES, seed, n_rounds)
        return subprocess.Popen(
            [sys.executable, "-m", "tests.unit.cache_reader", *map(str, numbers), *digests],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    return start


def test_processes_share_a_cache_within_its_bound(
    start_reader: StartReader, tmp_path: Path
) -> None:
    readers = [start_reader(seed=seed, n_rounds=60) for seed in (1, 2, 3)]

    said = [reader.communicate(timeout=DEADLINE_SECONDS)[0] for reader in readers]

    assert said == ["done\n"] * 3
    cache = Cache(root=tmp_path / "cache", max_bytes=MAX_BYTES)
    assert 0 < cache.count_bytes() <= MAX_BYTES
    assert list((tmp_path / "cache" / ".drafts").iterdir()) == []


def test_process_killed_while_it_fetches_leaves_no_blob_and_holds_up_nobody(
    start_reader: StartReader, digests: list[str], objects: S3Objects, tmp_path: Path
) -> None:
    with start_reader(seed=0, n_rounds=1) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "begun\n"
        drafts = list((tmp_path / "cache" / ".drafts").iterdir())
        killed.kill()

    assert len(drafts) == 1
    assert drafts[0].exists()
    assert [path for path in tmp_path.glob("cache/datasets/**/*") if path.is_file()] == []

    cache = Cache(root=tmp_path / "cache", max_bytes=MAX_BYTES)
    bin = RemoteStorage(objects=objects, cache=cache).get_bin("key")
    for digest in digests:
        bin.open(kind=Kind.FEATURES, digest=digest).close()

    assert not drafts[0].exists()
    assert cache.count_bytes() <= MAX_BYTES
