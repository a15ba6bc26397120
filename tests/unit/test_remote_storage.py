"""Bins in an object store, through a cache: over real HTTP, damaged, cut off, out of room."""

from __future__ import annotations

import hashlib
import os
import secrets
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runapp.common.exceptions import StorageAway, StorageError
from runapp.storage import Kind, RemoteBin, RemoteStorage, s3
from runapp.storage.cache import Cache
from runapp.storage.s3 import S3Objects
from tests.object_server import BUCKET, HOST, ObjectServer, serving_objects
from tests.ports import find_free_port

MakeMachine = Callable[..., RemoteStorage]

KEY = "0123456789abcdef"
MEGABYTE = 2**20


@pytest.fixture
def prefix() -> str:
    return f"tests/{secrets.token_hex(6)}"


@pytest.fixture
def make_machine(object_server: ObjectServer, tmp_path: Path, prefix: str) -> MakeMachine:
    """Return a maker of machines, each with a cache of its own, that share one store."""

    def make(name: str = "one", *, max_bytes: int = 100 * MEGABYTE) -> RemoteStorage:
        cache = Cache(root=tmp_path / name, max_bytes=max_bytes)
        return RemoteStorage(objects=S3Objects(object_server.locate(prefix)), cache=cache)

    return make


def list_cached(storage: RemoteStorage) -> list[str]:
    return sorted(path.name for path in storage.cache.root.glob("datasets/**/*") if path.is_file())


def list_drafts(storage: RemoteStorage) -> list[Path]:
    return list((storage.cache.root / ".drafts").iterdir())


def overwrite(server: ObjectServer, name: str, content: bytes) -> None:
    server.make_client().put_object(Bucket=BUCKET, Key=name, Body=content)


def read(bin: RemoteBin, digest: str, *, kind: Kind = Kind.FEATURES) -> bytes:
    with bin.open(kind=kind, digest=digest) as file:
        assert Path(file.name).is_relative_to(bin.root)
        return file.read()


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 1000])
def test_blob_written_on_one_machine_is_read_on_another(
    make_machine: MakeMachine, content: bytes, kind: Kind
) -> None:
    digest = make_machine("one").get_bin(KEY).write(kind=kind, content=content)

    other = make_machine("other").get_bin(KEY)

    assert digest == hashlib.sha256(content).hexdigest()
    assert other.read(kind=kind, digest=digest) == content
    assert read(other, digest, kind=kind) == content
    assert other.measure(kind=kind, digest=digest) == len(content)


def test_object_lies_where_the_folder_storage_has_its_file(
    make_machine: MakeMachine, object_server: ObjectServer, prefix: str
) -> None:
    storage = make_machine()

    digest = storage.get_bin(KEY).write(kind=Kind.LABELS, content=b"x")

    place = f"datasets/{KEY}/labels/{digest[:2]}/{digest}"
    assert object_server.list_names(prefix) == [f"{prefix}/{place}"]
    assert (storage.cache.root / place).read_bytes() == b"x"
    assert storage.list_keys() == [KEY]


def test_blob_of_several_parts_is_uploaded_whole(
    make_machine: MakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "MOST_AT_ONCE_BYTES", 5 * MEGABYTE)  # the least that S3 has
    content, pulses = secrets.token_bytes(12 * MEGABYTE), []

    with (
        make_machine("one")
        .get_bin(KEY)
        .open_writer(kind=Kind.FEATURES, pulse=lambda: pulses.append(None)) as writer
    ):
        writer.write(content)

    assert len(pulses) > 2
    assert read(make_machine("other").get_bin(KEY), writer.digest) == content


def test_upload_that_its_pulse_ends_leaves_no_object(
    make_machine: MakeMachine,
    object_server: ObjectServer,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(s3, "MOST_AT_ONCE_BYTES", 5 * MEGABYTE)
    storage = make_machine()

    def give_up() -> None:
        raise KeyError

    with (
        pytest.raises(KeyError),
        storage.get_bin(KEY).open_writer(kind=Kind.FEATURES, pulse=give_up) as writer,
    ):
        writer.write(bytes(12 * MEGABYTE))

    assert object_server.list_names(prefix) == []
    uploads = object_server.make_client().list_multipart_uploads(Bucket=BUCKET, Prefix=prefix)
    assert uploads.get("Uploads", []) == []
    assert list_drafts(storage) == []


def test_second_reading_asks_the_store_for_nothing(
    make_machine: MakeMachine, object_server: ObjectServer, prefix: str
) -> None:
    digest = make_machine("one").get_bin(KEY).write(kind=Kind.FEATURES, content=b"content")
    bin = make_machine("other").get_bin(KEY)
    read(bin, digest)
    for name in object_server.list_names(prefix):
        object_server.make_client().delete_object(Bucket=BUCKET, Key=name)

    assert read(bin, digest) == b"content"
    assert bin.measure(kind=Kind.FEATURES, digest=digest) == 7


def test_predictions_do_not_fill_the_cache(make_machine: MakeMachine) -> None:
    storage = make_machine()
    bin = storage.get_bin(KEY)

    digest = bin.write(kind=Kind.PREDICTIONS, content=b"content")

    assert bin.read(kind=Kind.PREDICTIONS, digest=digest) == b"content"
    assert list_cached(storage) == []


def test_damaged_object_is_refused_and_never_cached(
    make_machine: MakeMachine, object_server: ObjectServer, prefix: str
) -> None:
    digest = make_machine("one").get_bin(KEY).write(kind=Kind.FEATURES, content=b"content")
    overwrite(object_server, object_server.list_names(prefix)[0], b"c0ntent")
    other = make_machine("other")

    with pytest.raises(StorageError, match="damaged") as caught:
        other.get_bin(KEY).open(kind=Kind.FEATURES, digest=digest)

    assert not isinstance(caught.value, StorageAway)
    assert list_cached(other) == list_drafts(other) == []


def test_damaged_predictions_are_refused(
    make_machine: MakeMachine, object_server: ObjectServer, prefix: str
) -> None:
    bin = make_machine().get_bin(KEY)
    digest = bin.write(kind=Kind.PREDICTIONS, content=b"content")
    overwrite(object_server, object_server.list_names(prefix)[0], b"c0ntent")

    with pytest.raises(StorageError, match="damaged"):
        bin.read(kind=Kind.PREDICTIONS, digest=digest)


def test_cached_file_that_was_damaged_is_fetched_again(make_machine: MakeMachine) -> None:
    storage = make_machine()
    bin = storage.get_bin(KEY)
    digest = bin.write(kind=Kind.FEATURES, content=b"content")
    path = bin.locate(kind=Kind.FEATURES, digest=digest)
    path.write_bytes(b"c0ntent")

    assert read(bin, digest) == b"content"
    assert path.read_bytes() == b"content"


@pytest.mark.parametrize("kind", [Kind.FEATURES, Kind.PREDICTIONS])
def test_missing_object_is_an_error_of_the_blob(make_machine: MakeMachine, kind: Kind) -> None:
    bin = make_machine().get_bin(KEY)

    for ask in (bin.read, bin.open, bin.measure):
        with pytest.raises(StorageError, match="cannot be read") as caught:
            ask(kind=kind, digest="0" * 64)
        assert not isinstance(caught.value, StorageAway)


def test_removed_bin_is_gone_everywhere_and_its_neighbour_is_not(
    make_machine: MakeMachine, object_server: ObjectServer, prefix: str
) -> None:
    storage = make_machine()
    bin, neighbour = storage.get_bin(KEY), storage.get_bin(f"{KEY}0")
    bin.write_tree(kind=Kind.CODE, files={"a": b"1", "b": b"2"})
    kept = neighbour.write(kind=Kind.RAW, content=b"x")

    bin.remove()
    bin.remove()  # what is gone already is no error

    assert storage.list_keys() == [f"{KEY}0"]
    assert list_cached(storage) == [kept]
    assert len(object_server.list_names(prefix)) == 1


def test_bin_of_more_objects_than_fit_one_request_is_removed_whole(
    make_machine: MakeMachine,
    object_server: ObjectServer,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(s3, "MOST_REMOVED_AT_ONCE", 3)
    bin = make_machine().get_bin(KEY)
    bin.write_tree(kind=Kind.CODE, files={str(number): b"%d" % number for number in range(10)})

    bin.remove()

    assert object_server.list_names(prefix) == []


def test_old_object_is_removed_and_one_that_was_written_again_is_not(
    make_machine: MakeMachine,
) -> None:
    bin = make_machine().get_bin(KEY)
    bin.write(kind=Kind.CODE, content=b"content")
    (blob,) = bin.list_stored()

    assert (blob.kind, blob.size) == ("code", 7)
    assert not bin.remove_old(blob, before=blob.modified_at)
    assert bin.remove_old(blob, before=blob.modified_at + 60)
    assert list(bin.list_stored()) == []


def test_failed_writer_leaves_nothing(
    make_machine: MakeMachine, object_server: ObjectServer, prefix: str
) -> None:
    storage = make_machine()

    def write_half() -> None:
        with storage.get_bin(KEY).open_writer(kind=Kind.RAW) as writer:
            writer.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()

    assert object_server.list_names(prefix) == []
    assert list_cached(storage) == list_drafts(storage) == []


def test_discarded_writer_leaves_nothing(
    make_machine: MakeMachine, object_server: ObjectServer, prefix: str
) -> None:
    storage = make_machine()

    with storage.get_bin(KEY).open_writer(kind=Kind.RAW) as writer:
        writer.write(b"not wanted")
        writer.discard()

    assert object_server.list_names(prefix) == []
    assert list_cached(storage) == list_drafts(storage) == []


def test_many_readers_fetch_a_blob_once(
    make_machine: MakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = secrets.token_bytes(3 * MEGABYTE)
    digest = make_machine("one").get_bin(KEY).write(kind=Kind.FEATURES, content=content)
    other = make_machine("other")
    asked: list[str] = []
    download = S3Objects.download

    def count(self: S3Objects, name: str) -> object:
        asked.append(name)
        return download(self, name)

    monkeypatch.setattr(S3Objects, "download", count)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: read(other.get_bin(KEY), digest), range(16)))

    assert set(found) == {content}
    assert len(asked) == 1


def test_transfer_ends_when_its_pulse_says_so(make_machine: MakeMachine) -> None:
    digest = make_machine("one").get_bin(KEY).write(kind=Kind.FEATURES, content=b"content")
    other = make_machine("other")

    def give_up() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        other.get_bin(KEY).open(kind=Kind.FEATURES, digest=digest, pulse=give_up)

    assert list_cached(other) == list_drafts(other) == []


def test_cache_stays_within_its_bound(make_machine: MakeMachine) -> None:
    storage = make_machine(max_bytes=10 * MEGABYTE)
    bin = storage.get_bin(KEY)

    digests = [
        bin.write(kind=Kind.FEATURES, content=bytes([number]) * MEGABYTE) for number in range(25)
    ]

    assert storage.cache.count_bytes() <= 10 * MEGABYTE
    assert digests[-1] in list_cached(storage)
    assert [read(bin, digest)[0] for digest in digests] == list(range(25))
    assert storage.cache.count_bytes() <= 10 * MEGABYTE


def test_what_was_used_longest_ago_leaves_first(make_machine: MakeMachine) -> None:
    storage = make_machine(max_bytes=4 * MEGABYTE)
    bin = storage.get_bin(KEY)
    first, second, third = (
        bin.write(kind=Kind.FEATURES, content=bytes([number]) * MEGABYTE) for number in range(3)
    )
    read(bin, first)

    bin.write(kind=Kind.FEATURES, content=b"x" * (MEGABYTE + 1))

    assert first in list_cached(storage)
    assert second not in list_cached(storage)
    assert third in list_cached(storage)


def test_blob_in_use_stays_whatever_the_bound(make_machine: MakeMachine) -> None:
    storage = make_machine(max_bytes=2 * MEGABYTE)
    bin = storage.get_bin(KEY)
    digest = bin.write(kind=Kind.FEATURES, content=b"u" * MEGABYTE)

    with bin.open(kind=Kind.FEATURES, digest=digest):
        for number in range(5):
            bin.write(kind=Kind.FEATURES, content=bytes([number]) * MEGABYTE)
        assert bin.locate(kind=Kind.FEATURES, digest=digest).exists()

    for number in range(5, 8):
        bin.write(kind=Kind.FEATURES, content=bytes([number]) * MEGABYTE)
    assert not bin.locate(kind=Kind.FEATURES, digest=digest).exists()


def test_blob_larger_than_the_bound_is_served_and_leaves_next(make_machine: MakeMachine) -> None:
    content = secrets.token_bytes(3 * MEGABYTE)
    digest = make_machine("one").get_bin(KEY).write(kind=Kind.FEATURES, content=content)
    storage = make_machine("other", max_bytes=MEGABYTE)
    bin = storage.get_bin(KEY)

    assert read(bin, digest) == content

    small = bin.write(kind=Kind.FEATURES, content=b"small")
    assert list_cached(storage) == [small]


def test_drafts_of_dead_processes_are_swept_and_those_of_live_ones_are_not(
    make_machine: MakeMachine,
) -> None:
    storage = make_machine()
    with storage.cache.open_draft(size=1000) as draft:
        left = draft.path.with_name(".incoming-left")
        left.write_bytes(b"half")

        make_machine().cache.remove("datasets/none")  # the first act of another process

        assert draft.path.exists()
        assert not left.exists()


def test_room_for_what_is_being_fetched_is_made_beforehand(make_machine: MakeMachine) -> None:
    storage = make_machine(max_bytes=4 * MEGABYTE)
    bin = storage.get_bin(KEY)
    for number in range(4):
        bin.write(kind=Kind.FEATURES, content=bytes([number]) * MEGABYTE)

    with storage.cache.open_draft(size=2 * MEGABYTE):
        assert storage.cache.count_bytes() <= 4 * MEGABYTE


def test_lost_count_is_made_anew(make_machine: MakeMachine) -> None:
    storage = make_machine(max_bytes=4 * MEGABYTE)
    bin = storage.get_bin(KEY)
    bin.write(kind=Kind.FEATURES, content=b"x" * MEGABYTE)
    (storage.cache.root / ".lock").write_bytes(b"nonsense")

    for number in range(5):
        bin.write(kind=Kind.FEATURES, content=bytes([number]) * MEGABYTE)

    assert storage.cache.count_bytes() <= 4 * MEGABYTE


def test_cache_that_cannot_be_written_is_an_absence(
    object_server: ObjectServer, prefix: str
) -> None:
    objects = S3Objects(object_server.locate(prefix))
    storage = RemoteStorage(
        objects=objects, cache=Cache(root=Path("/sys/kernel/datarun"), max_bytes=MEGABYTE)
    )

    with pytest.raises(StorageAway):
        storage.get_bin(KEY).write(kind=Kind.RAW, content=b"x")


def test_store_that_nobody_serves_is_away_and_soon_said_to_be(
    object_server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = ObjectServer(port=find_free_port(), process=object_server.process)
    storage = RemoteStorage(
        objects=S3Objects(nowhere.locate("x")), cache=Cache(root=tmp_path, max_bytes=MEGABYTE)
    )
    bin = storage.get_bin(KEY)

    for ask in (bin.read, bin.open, bin.measure):
        with pytest.raises(StorageAway) as caught:
            ask(kind=Kind.RAW, digest="0" * 64)
        assert BUCKET not in caught.value.message
        assert HOST not in caught.value.message
    with pytest.raises(StorageAway):
        bin.write(kind=Kind.RAW, content=b"x")
    for act in (bin.remove, storage.list_keys, lambda: list(bin.list_stored())):
        with pytest.raises(StorageAway):
            act()


def test_store_that_comes_back_is_asked_again(
    object_server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "REST_SECONDS", 0)
    monkeypatch.setattr(s3, "READ_SECONDS", 1)
    with serving_objects() as server:
        bin = RemoteStorage(
            objects=S3Objects(server.locate("x")), cache=Cache(root=tmp_path, max_bytes=MEGABYTE)
        ).get_bin(KEY)
        bin.write(kind=Kind.RAW, content=b"before")
        os.kill(server.process.pid, signal.SIGSTOP)
        try:
            with pytest.raises(StorageAway):
                bin.write(kind=Kind.RAW, content=b"meanwhile")
        finally:
            os.kill(server.process.pid, signal.SIGCONT)

        digest = bin.write(kind=Kind.RAW, content=b"after")

        assert bin.read(kind=Kind.RAW, digest=digest) == b"after"


def test_bucket_that_is_not_there_is_an_absence_not_a_missing_blob(
    object_server: ObjectServer, tmp_path: Path
) -> None:
    location = s3.S3Location(bucket="nobody-made-it", endpoint_url=object_server.url)
    bin = RemoteStorage(
        objects=S3Objects(location), cache=Cache(root=tmp_path, max_bytes=MEGABYTE)
    ).get_bin(KEY)

    for ask in (bin.open, bin.read):
        with pytest.raises(StorageAway):
            ask(kind=Kind.RAW, digest="0" * 64)
