"""Posted files are written below their folder and nowhere else."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rest_framework.exceptions import ValidationError

from runapp.common.exceptions import InvalidInput, TooLarge
from runapp.runner.child.files import save_files as save_in_run
from runapp.views import save_files
from tests.factories import pack

BAD_NAMES = ["", "/etc/passwd", "../out.py", "a/../../out.py", "a//b.py", "./a.py", "a/", "a\0.py"]


def list_files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("pack_content", [pack, bytes])
def test_files_are_saved_by_their_names(tmp_path: Path, pack_content: Any) -> None:
    contents = {"classifier.py": b"class Classifier: ...\n", "data/deep/train.csv": b"a,b\n"}
    folder = tmp_path / "new" / "folder"

    save_files(folder, {"files": {name: pack_content(each) for name, each in contents.items()}})

    assert list_files(folder) == contents


def test_saved_file_replaces_the_one_before(tmp_path: Path) -> None:
    save_files(str(tmp_path), {"files": {"a.py": b"longer than the next"}})

    save_files(str(tmp_path), {"files": {"a.py": b"short"}})

    assert list_files(tmp_path) == {"a.py": b"short"}


@pytest.mark.parametrize("name", BAD_NAMES)
def test_name_that_leads_out_is_refused_before_anything_is_written(
    tmp_path: Path, name: str
) -> None:
    files = {"good.py": b"", name: b""}

    with pytest.raises(InvalidInput):
        save_files(tmp_path / "folder", {"files": files})
    with pytest.raises(ValueError, match="is not the name of a file"):
        save_in_run(tmp_path / "folder", {"files": files})

    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("name", BAD_NAMES)
def test_posted_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValidationError):
        save_files(tmp_path / "folder", {"files": {name: pack(b"")}})

    assert list(tmp_path.rglob("*")) == []


def test_content_that_is_not_packed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        save_files(tmp_path, {"files": {"a.py": "import sklearn"}})

    assert list(tmp_path.iterdir()) == []


def test_contents_are_bounded(tmp_path: Path, settings: Any) -> None:
    settings.MAX_INFLATED_BYTES = 1000

    with pytest.raises(TooLarge):
        save_files(tmp_path, {"files": {"a.csv": pack(bytes(1001))}})

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["link", "link/a.py"])
def test_link_is_not_followed(tmp_path: Path, name: str) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    for each in (outside, folder):
        each.mkdir()
    (outside / "kept.py").write_bytes(b"kept")
    (folder / "link").symlink_to(outside / "kept.py" if name == "link" else outside)

    with pytest.raises(OSError, match="link"):
        save_files(folder, {"files": {name: b"changed"}})

    assert list_files(outside) == {"kept.py": b"kept"}


def test_open_file_is_copied(tmp_path: Path) -> None:
    save_in_run(tmp_path, {"files": {"a.csv": io.BytesIO(b"1,2\n")}})

    assert list_files(tmp_path) == {"a.csv": b"1,2\n"}
