"""Files that must not be taken, and that nothing is left of them."""

from __future__ import annotations

import base64
import errno
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runapp.models import RawData, Submission, SubmissionFold
from tests.factories import (
    list_stored,
    make_account,
    make_client,
    make_fold_body,
    make_raw_data,
    make_raw_data_body,
    pack,
)

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

TINY = pack(b"x")
Post = Callable[[dict[str, Any]], Any]


@pytest.fixture(params=["rawdata/", "submissionfold/"])
def post(request: pytest.FixtureRequest) -> Post:
    """Post files with a new dataset, or with a new submission."""
    account = make_account()
    client = make_client(account)
    if request.param == "rawdata/":
        return lambda files: client.post("/runapp/rawdata/", make_raw_data_body(files=files))
    raw_data = make_raw_data(account, files={"iris.csv": b"kept"})
    return lambda files: client.post(
        "/runapp/submissionfold/", make_fold_body(raw_data, files=files)
    )


def check_nothing_is_left() -> None:
    """Check that there is at most what the fixture made."""
    assert not Submission.objects.exists()
    assert not SubmissionFold.objects.exists()
    kept = RawData.objects.values_list("storage_key", flat=True)
    assert {path.parts[1] for path in list_stored()} == set(kept)
    assert not any("code" in path.parts for path in list_stored())


BAD_FILES: dict[str, Any] = {
    "bad base64": {"a.py": "!!!"},
    "base64 without its end": {"a.py": pack(b"xy").rstrip("=")},
    "base64 over two lines": {"a.py": TINY + "\n"},
    "bad zlib": {"a.py": base64.b64encode(b"plain text").decode()},
    "zlib cut short": {"a.py": base64.b64encode(zlib.compress(b"x" * 99)[:-3]).decode()},
    "zlib with a tail": {"a.py": base64.b64encode(zlib.compress(b"x") + b"tail").decode()},
    "gzip": {"a.py": base64.b64encode(b"\x1f\x8b\x08\0").decode()},
    "empty text": {"a.py": ""},
    "null": {"a.py": None},
    "number": {"a.py": 5},
    "list": {"a.py": [TINY]},
    "nested object": {"data": {"a.py": TINY}},
    "no files": {},
    "list of names": ["a.py"],
    "text": TINY,
    "true": True,
    "parent": {"../a.py": TINY},
    "parent inside": {"data/../../a.py": TINY},
    "parent alone": {"..": TINY},
    "dot": {"./a.py": TINY},
    "absolute": {"/etc/passwd": TINY},
    "empty part": {"data//a.py": TINY},
    "folder": {"data/": TINY},
    "backslash": {"..\\a.py": TINY},
    "drive": {"C:\\a.py": TINY},
    "NUL": {"a.py\0.csv": TINY},
    "line break": {"a\n.py": TINY},
    "escape": {"\x1b[2J.py": TINY},
    "empty name": {"": TINY},
    "long name": {"x" * 256: TINY},
    "deep name": {"a/" * 20 + "b": TINY},
    "equal but for case": {"a.py": TINY, "A.py": TINY},
    "equal but for Unicode form": {"\u00e9.py": TINY, "e\u0301.py": TINY},
    "file and folder": {"a": TINY, "a/b": TINY},
    "second file bad": {"specific.py": TINY, "classifier.py": TINY, "z.csv": "!!!"},
}


@pytest.mark.parametrize("files", BAD_FILES.values(), ids=BAD_FILES.keys())
def test_bad_files_are_refused_and_nothing_is_left(post: Post, files: Any, storage: Path) -> None:
    response = post(files)

    assert response.status_code == 400
    assert {error["field"] for error in response.json()["errors"]} == {"files"}
    assert str(storage) not in response.content.decode()
    check_nothing_is_left()


def test_too_many_files_are_refused(post: Post, settings: Any) -> None:
    settings.MAX_FILES = 2
    files = {f"{number}.csv": TINY for number in range(3)}

    response = post(files)

    assert response.status_code == 400
    assert response.json()["files"] == ["At most 2 files are allowed."]
    check_nothing_is_left()


@pytest.mark.parametrize(
    "files",
    [
        {"classifier.py": pack(bytes(2**20 + 1))},
        {"classifier.py": pack(bytes(2**19)), "specific.py": pack(bytes(2**19 + 1))},
        {"classifier.py": pack(bytes(50 * 2**20))},
    ],
    ids=["one file", "files together", "bomb"],
)
def test_files_that_inflate_to_too_much_are_refused(
    post: Post, files: dict[str, str], settings: Any
) -> None:
    settings.MAX_INFLATED_BYTES = settings.MAX_SUBMISSION_BYTES = 2**20

    response = post(files)

    assert response.status_code == 413
    assert response.json()["detail"] == "The files unpack to more than the maximum of 1 MB."
    assert response.json()["errors"][0]["code"] == "too_large"
    check_nothing_is_left()


def test_files_of_just_the_limit_are_taken(post: Post, settings: Any) -> None:
    settings.MAX_INFLATED_BYTES = settings.MAX_SUBMISSION_BYTES = 2**20

    response = post({"classifier.py": pack(bytes(2**20))})

    assert response.status_code == 201


def test_body_over_the_limit_is_refused(post: Post, settings: Any) -> None:
    settings.MAX_BODY_BYTES = 2**20

    response = post({"classifier.py": "A" * 2**20})

    assert response.status_code == 413
    assert response.json()["detail"] == "The body is larger than the maximum of 1 MB."
    check_nothing_is_left()


def test_too_many_indices_are_refused(settings: Any) -> None:
    settings.MAX_INDICES = 10
    account = make_account()
    raw_data = make_raw_data(account)

    response = make_client(account).post("/runapp/submissionfold/", make_fold_body(raw_data))

    assert response.status_code == 413
    check_nothing_is_left()


def test_several_files_without_a_module_are_refused_in_the_documented_words() -> None:
    client = make_client(make_account())
    body = make_raw_data_body(files={"train.csv": TINY, "test.csv": TINY})

    response = client.post("/runapp/rawdata/", body)

    assert response.status_code == 406
    assert response.json() == {"error": "Submit a specific.py when submitting several files"}
    check_nothing_is_left()


def test_nested_names_and_empty_files_are_taken(post: Post) -> None:
    files = {"classifier.py": pack(b""), "data/b c/\u0645.csv": pack(b""), ".hidden": TINY}

    response = post(files)

    assert response.status_code == 201


def test_failing_storage_leaves_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*named: Any) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr("runapp.storage.bins._publish", fail)
    client = make_client(make_account())

    response = client.post("/runapp/rawdata/", make_raw_data_body())

    assert response.status_code == 503
    assert response.headers["Retry-After"] == "2"
    assert "device" not in response.content.decode()
    assert not RawData.objects.exists()
    assert list_stored() == []


def test_failing_database_leaves_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*named: Any, **more: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(RawData, "save", fail)
    client = make_client(make_account())
    client.raise_request_exception = False

    response = client.post("/runapp/rawdata/", make_raw_data_body())

    assert response.status_code == 500
    assert list_stored() == []
