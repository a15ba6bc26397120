"""Blobs by digest: whole or not at all, checked when read."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runapp.common.exceptions import StorageAway, StorageError
from runapp.storage import Bin, FolderStorage, Kind, compute_tree_digest

PROJECT = Path(__file__).resolve().parents[2]
KEY = "0123456789abcdef"


@pytest.fixture
def bin(tmp_path: Path) -> Bin:
    return Bin(root=tmp_path, key=KEY)


def list_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 1000])
def test_blob_is_read_as_it_was_written(bin: Bin, content: bytes) -> None:
    digest = bin.write(kind=Kind.RAW, content=content)

    assert digest == hashlib.sha256(content).hexdigest()
    assert bin.read(kind=Kind.RAW, digest=digest) == content
    with bin.open(kind=Kind.RAW, digest=digest) as file:
        assert file.read() == content


def test_same_blob_is_stored_once(bin: Bin) -> None:
    digests = {bin.write(kind=Kind.RAW, content=b"x") for _ in range(3)}

    assert len(digests) == 1
    assert len(list_files(bin.path)) == 1


def test_kinds_lie_apart(bin: Bin) -> None:
    digest = bin.write(kind=Kind.FEATURES, content=b"x")

    with pytest.raises(StorageError):
        bin.read(kind=Kind.LABELS, digest=digest)


def test_bins_lie_apart(bin: Bin, tmp_path: Path) -> None:
    digest = bin.write(kind=Kind.RAW, content=b"x")

    with pytest.raises(StorageError):
        Bin(root=tmp_path, key="other").read(kind=Kind.RAW, digest=digest)


def test_path_of_a_bin_is_relative_and_below_the_root(bin: Bin, tmp_path: Path) -> None:
    assert bin.relative_path == f"datasets/{KEY}"
    assert bin.path == tmp_path / "datasets" / KEY


def test_missing_blob_is_told_without_a_path(bin: Bin, tmp_path: Path) -> None:
    bin.write(kind=Kind.RAW, content=b"another")

    for read in (bin.read, bin.open):
        with pytest.raises(StorageError, match="cannot be read") as caught:
            read(kind=Kind.RAW, digest="0" * 64)

        assert str(tmp_path) not in caught.value.message


def test_damaged_blob_is_not_handed_out(bin: Bin) -> None:
    digest = bin.write(kind=Kind.RAW, content=b"content")
    bin.locate(kind=Kind.RAW, digest=digest).write_bytes(b"c0ntent")

    with pytest.raises(StorageError, match="damaged"):
        bin.read(kind=Kind.RAW, digest=digest)


def test_blob_written_in_pieces_is_the_whole(bin: Bin) -> None:
    with bin.open_writer(kind=Kind.LABELS) as writer:
        writer.write(b"one, ")
        writer.write(memoryview(b"two"))

    assert writer.size == 8
    assert bin.read(kind=Kind.LABELS, digest=writer.digest) == b"one, two"


def test_failed_writer_leaves_nothing(bin: Bin) -> None:
    def write_half() -> None:
        with bin.open_writer(kind=Kind.RAW) as writer:
            writer.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()

    assert list_files(bin.path) == []


def test_discarded_writer_leaves_nothing(bin: Bin) -> None:
    with bin.open_writer(kind=Kind.RAW) as writer:
        writer.write(b"whole, but not wanted")
        writer.discard()

    assert list_files(bin.path) == []


def test_what_is_being_written_cannot_be_read_yet(bin: Bin) -> None:
    digest = hashlib.sha256(b"late").hexdigest()

    with bin.open_writer(kind=Kind.RAW) as writer:
        writer.write(b"late")
        assert not bin.locate(kind=Kind.RAW, digest=digest).exists()

    assert bin.locate(kind=Kind.RAW, digest=digest).exists()


def test_blobs_are_their_owners_alone(bin: Bin) -> None:
    digest = bin.write(kind=Kind.LABELS, content=b"secret")

    path = bin.locate(kind=Kind.LABELS, digest=digest)
    modes = [stat.S_IMODE(found.stat().st_mode) for found in (path, path.parent)]
    assert modes == [0o600, 0o700]


def test_tree_is_read_as_it_was_written(bin: Bin) -> None:
    files = {"classifier.py": b"pass", "lib/\u00e9.py": b"", "copy.py": b"pass"}

    tree = bin.write_tree(kind=Kind.CODE, files=files)

    assert bin.read_tree(kind=Kind.CODE, files=tree.files) == files
    assert tree.files["copy.py"] == tree.files["classifier.py"]


def test_tree_does_not_write_below_names_of_its_files(bin: Bin, tmp_path: Path) -> None:
    tree = bin.write_tree(kind=Kind.CODE, files={"../../../escape": b"x"})

    assert not (tmp_path.parent / "escape").exists()
    assert list(tree.files) == ["../../../escape"]
    assert all(len(path.name) == 64 for path in list_files(bin.path))


def test_storage_that_is_not_mounted_is_away_and_says_nothing_of_the_blob(bin: Bin) -> None:
    for read in (bin.read, bin.open, bin.measure):
        with pytest.raises(StorageAway, match="try again"):
            read(kind=Kind.RAW, digest="0" * 64)


def test_storage_that_refuses_is_away() -> None:
    # Not even root makes folders in /sys.
    refusing = Bin(root=Path("/sys/kernel"), key=KEY)

    with pytest.raises(StorageAway) as caught:
        refusing.write(kind=Kind.RAW, content=b"x")

    assert "/sys" not in caught.value.message


def test_full_disk_is_an_absence_and_leaves_no_blob(tmp_path: Path) -> None:
    # A file may not grow beyond this limit, whoever writes: the kernel refuses as for a full disk.
    program = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from runapp.common.exceptions import StorageAway\n"
        "from runapp.storage import Bin, Kind\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    Bin(root=Path(sys.argv[1]), key='k').write(kind=Kind.RAW, content=b'x' * 5000)\n"
        "except StorageAway:\n"
        "    print('away')\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert done.stdout == "away\n"
    assert list_files(tmp_path) == []


def test_damaged_blob_is_not_opened_and_its_good_copy_is(bin: Bin) -> None:
    digest = bin.write(kind=Kind.FEATURES, content=b"content")
    path = bin.locate(kind=Kind.FEATURES, digest=digest)
    path.write_bytes(b"c0ntent")

    with pytest.raises(StorageError, match="damaged"):
        bin.open(kind=Kind.FEATURES, digest=digest)

    path.write_bytes(b"content")
    with bin.open(kind=Kind.FEATURES, digest=digest) as file:
        assert file.read() == b"content"


def test_blob_is_checked_again_only_when_its_file_has_changed(bin: Bin) -> None:
    digest = bin.write(kind=Kind.FEATURES, content=b"content")
    path = bin.locate(kind=Kind.FEATURES, digest=digest)
    pieces: list[None] = []

    def open_and_close() -> int:
        bin.open(kind=Kind.FEATURES, digest=digest, pulse=lambda: pieces.append(None)).close()
        return len(pieces)

    assert [open_and_close(), open_and_close()] == [1, 1]

    os.utime(path, ns=(1, 1))
    assert open_and_close() == 2

    path.write_bytes(b"c0ntent")
    with pytest.raises(StorageError, match="damaged"):
        open_and_close()


def test_measured_blob_has_its_size(bin: Bin) -> None:
    digest = bin.write(kind=Kind.FEATURES, content=b"content")

    assert bin.measure(kind=Kind.FEATURES, digest=digest) == 7


def test_storage_lists_its_bins_and_what_lies_in_them(bin: Bin, tmp_path: Path) -> None:
    storage = FolderStorage(root=tmp_path)
    assert storage.list_keys() == []

    digest = bin.write(kind=Kind.RAW, content=b"content")

    (blob,) = storage.get_bin(KEY).list_stored()
    assert storage.list_keys() == [KEY]
    assert (blob.kind, blob.digest, blob.size) == ("raw", digest, 7)


def test_old_blob_is_removed_and_one_that_was_renewed_is_not(bin: Bin) -> None:
    digest = bin.write(kind=Kind.CODE, content=b"content")
    path = bin.locate(kind=Kind.CODE, digest=digest)
    os.utime(path, (1000, 1000))
    (blob,) = bin.list_stored()
    bin.write(kind=Kind.CODE, content=b"content")  # somebody is about to refer to it

    assert not bin.remove_old(blob, before=2000)
    assert bin.read(kind=Kind.CODE, digest=digest) == b"content"

    os.utime(path, (1000, 1000))
    assert bin.remove_old(blob, before=2000)
    assert list_files(bin.path) == []
    assert not bin.remove_old(blob, before=2000)


NAMED = st.dictionaries(st.text(max_size=5), st.binary(max_size=5), max_size=3)


@given(first=NAMED, second=NAMED)
def test_digest_of_a_tree_tells_names_and_contents_apart(
    first: dict[str, bytes], second: dict[str, bytes]
) -> None:
    digests = [compute_tree_digest(files=files) for files in (first, second)]

    assert (digests[0] == digests[1]) == (first == second)


def test_digest_of_a_tree_is_known_before_it_is_written(bin: Bin) -> None:
    files = {"b": b"2", "a": b"1"}

    tree = bin.write_tree(kind=Kind.CODE, files=files)

    assert compute_tree_digest(files=dict(reversed(files.items()))) == tree.digest
    assert bin.locate(kind=Kind.CODE, digest=tree.digest).exists()


def test_removed_bin_is_gone_and_its_neighbour_is_not(bin: Bin, tmp_path: Path) -> None:
    neighbour = Bin(root=tmp_path, key="neighbour")
    kept = neighbour.write(kind=Kind.RAW, content=b"x")
    bin.write_tree(kind=Kind.CODE, files={"a": b"1"})

    bin.remove()
    bin.remove()  # what is gone already is no error

    assert not bin.path.exists()
    assert neighbour.read(kind=Kind.RAW, digest=kept) == b"x"


def test_writers_of_the_same_blob_agree(bin: Bin) -> None:
    with ThreadPoolExecutor(8) as pool:
        digests = set(
            pool.map(lambda _: bin.write(kind=Kind.RAW, content=b"x" * 10_000), range(16))
        )

    assert len(digests) == 1
    assert len(list_files(bin.path)) == 1
