"""submission/: what the list shows."""

from __future__ import annotations

import pytest

from tests.factories import (
    CLASSIFIER,
    list_stored,
    make_account,
    make_client,
    make_fold,
    make_raw_data,
    pack,
    post_fold,
)

pytestmark = pytest.mark.django_db

PATH = "/runapp/submission/"


def test_list_shows_a_submission_once_however_many_folds_it_has() -> None:
    account = make_account()
    raw_data = make_raw_data(account)
    make_fold(account, raw_data, databoard_s_id=24, databoard_sf_id=1)
    make_fold(account, databoard_s_id=24, databoard_sf_id=2)

    rows = make_client(account).get(PATH).json()

    assert len(rows) == 1
    assert list(rows[0]) == ["databoard_s_id", "raw_data", "files_path", "hash_files", "files"]
    assert rows[0]["databoard_s_id"] == 24
    assert rows[0]["raw_data"] == raw_data.pk
    assert rows[0]["files"] == ["classifier.py"]
    assert len(rows[0]["hash_files"]) == 64


def test_files_path_lies_in_the_dataset_and_is_relative() -> None:
    account = make_account()
    raw_data = make_raw_data(account)
    make_fold(account, raw_data)

    row = make_client(account).get(PATH).json()[0]

    assert row["files_path"].startswith(f"{raw_data.files_path}/")
    assert row["files_path"] in {str(path) for path in list_stored()}


def test_hash_tells_contents_and_names_apart() -> None:
    account = make_account()
    raw_data = make_raw_data(account)
    code = pack(CLASSIFIER)
    for number, files in enumerate(
        [
            {"classifier.py": code},
            {"classifier.py": code, "a.txt": pack(b"")},
            {"classifier.py": code, "b.txt": pack(b"")},
            {"classifier.py": pack(b"pass")},
            {"b.txt": pack(b""), "classifier.py": code},
        ]
    ):
        make_fold(account, raw_data, databoard_s_id=number, databoard_sf_id=number, files=files)

    hashes = [row["hash_files"] for row in make_client(account).get(PATH).json()]

    assert len(set(hashes)) == 4
    assert hashes[2] == hashes[4]


def test_list_is_a_plain_array_oldest_first() -> None:
    account = make_account()
    raw_data = make_raw_data(account)
    client = make_client(account)
    assert client.get(PATH).json() == []
    for number in (3, 1, 2):
        post_fold(client, raw_data, databoard_s_id=number, databoard_sf_id=number)

    rows = client.get(PATH).json()

    assert [row["databoard_s_id"] for row in rows] == [3, 1, 2]


def test_list_answers_nested_names_in_order() -> None:
    account = make_account()
    raw_data = make_raw_data(account)
    files = {"lib/b.py": pack(b""), "classifier.py": pack(CLASSIFIER), "lib/a.py": pack(b"")}
    make_fold(account, raw_data, files=files)

    row = make_client(account).get(PATH).json()[0]

    assert row["files"] == ["classifier.py", "lib/a.py", "lib/b.py"]
