"""What `manage.py prune` removes and, above all, what it does not."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from runapp.models import (
    AccessToken,
    FoldAttempt,
    Predictions,
    RawData,
    Submission,
    SubmissionFold,
    Worker,
)
from runapp.services import retention
from runapp.services.retention import Removal, prune
from runapp.storage import Bin, Kind, StoredBlob
from runapp.storage.location import S3Location
from runapp.stores import get_storage
from tests.factories import (
    finish_fold,
    make_account,
    make_client,
    make_live_worker,
    make_raw_data,
    make_ready_dataset,
    make_token,
    pack,
    post_fold,
    split_now,
    work,
)

pytestmark = pytest.mark.django_db
STRAY = b"nobody's"


@pytest.fixture(params=["folder", "objects"])
def either_storage(request: pytest.FixtureRequest, settings: Any) -> None:
    """Both storages; predictions lie there whatever their size."""
    settings.INLINE_PREDICTIONS_BYTES = 0
    if request.param == "objects":
        server = request.getfixturevalue("object_server")
        settings.STORAGE_REMOTE = server.locate(f"tests/{secrets.token_hex(6)}")


@pytest.fixture
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all that lies there be old."""
    monkeypatch.setattr(retention, "GRACE", timedelta(hours=-1))


def run(**named: Any) -> dict[str, Removal]:
    return {removal.what: removal for removal in prune(**named)}


def list_blobs() -> set[tuple[str, str, str]]:
    storage = get_storage()
    return {
        (key, blob.kind, blob.digest)
        for key in storage.list_keys()
        for blob in storage.get_bin(key).list_stored()
    }


def age(days: float) -> None:
    """Let all finished folds have ended so long ago, and have been handed out."""
    SubmissionFold.objects.update(finished_at=timezone.now() - timedelta(days=days), new=False)


@pytest.mark.usefixtures("either_storage", "no_grace")
def test_what_rows_refer_to_stays_and_all_else_goes() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    fold = finish_fold(account, raw_data)
    needed = list_blobs()
    for kind in Kind:
        raw_data.bin.write(kind=kind, content=STRAY)

    removed = run()

    assert removed["files that no row refers to"] == Removal(
        "files that no row refers to", len(Kind), len(Kind) * len(STRAY)
    )
    assert list_blobs() == needed
    assert {kind for _, kind, _ in needed} == set(Kind)
    for predictions in fold.predictions.all():
        raw_data.bin.read(kind=Kind.PREDICTIONS, digest=predictions.digest)
    assert finish_fold(account, raw_data, databoard_sf_id=12).state == "TESTED"


@pytest.mark.usefixtures("either_storage")
def test_young_files_stay_whatever_they_are() -> None:
    raw_data = make_ready_dataset(make_account())
    raw_data.bin.write(kind=Kind.CODE, content=STRAY)
    get_storage().get_bin("being-posted").write(kind=Kind.RAW, content=STRAY)
    before = list_blobs()

    removed = run()

    assert list_blobs() == before
    assert removed["files that no row refers to"].count == 0
    assert removed["files of deleted datasets"].count == 0


@pytest.mark.usefixtures("either_storage", "no_grace")
def test_dry_run_tells_all_and_removes_nothing() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    finish_fold(account, raw_data)
    raw_data.bin.write(kind=Kind.CODE, content=STRAY)
    get_storage().get_bin("deleted").write(kind=Kind.RAW, content=STRAY)
    make_live_worker()
    Worker.objects.update(seen_at=timezone.now() - timedelta(days=2))
    age(days=10)
    before = list_blobs()

    told = run(days=5, is_dry_run=True)

    assert list_blobs() == before
    assert (Predictions.objects.count(), FoldAttempt.objects.count()) == (2, 1)
    assert Worker.objects.count() == 1
    assert told == run(days=5)
    assert told["predictions"].count == 2
    assert told["files that no row refers to"].count == 3


@pytest.mark.usefixtures("either_storage", "no_grace")
def test_parts_of_an_older_split_and_replaced_code_go() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    finish_fold(account, raw_data)
    old_parts = dict(raw_data.parts or {})
    old_code = Submission.objects.get().files["classifier.py"]
    code = {"classifier.py": pack(b"class Classifier:\n    new = True\n")}
    response = post_fold(
        make_client(account), raw_data, files=code, force="submission, submission_fold"
    )
    assert response.status_code == 201, response.json()
    raw_data.target_column = "width"
    raw_data.workflow_elements = "regressor"
    raw_data.save()
    split_now(raw_data, force=True)

    run()

    digests = {digest for _, _, digest in list_blobs()}
    assert old_code not in digests
    assert old_parts["y_train"] not in digests
    assert set((raw_data.parts or {}).values()) - {"frame"} <= digests


@pytest.mark.usefixtures("either_storage", "no_grace")
def test_files_of_a_deleted_dataset_go_and_those_of_others_stay() -> None:
    kept = make_raw_data(make_account())
    needed = list_blobs()
    get_storage().get_bin("deleted").write_tree(kind=Kind.CODE, files={"a": STRAY, "b": b""})

    removed = run()

    assert removed["files of deleted datasets"].count == 3
    assert list_blobs() == needed
    assert get_storage().list_keys() == [kept.storage_key]


def test_drafts_of_killed_writers_go_when_they_are_old(settings: Any) -> None:
    raw_data = make_raw_data(make_account())
    folder = raw_data.bin.path / Kind.RAW
    old, young = folder / ".incoming-old", folder / ".incoming-young"
    for path in (old, young):
        path.write_bytes(STRAY)
    os.utime(old, (1000, 1000))

    removed = run()

    assert removed["files that no row refers to"].n_bytes == len(STRAY)
    assert (old.exists(), young.exists()) == (False, True)


@pytest.mark.usefixtures("no_grace")
def test_file_that_a_row_comes_to_refer_to_meanwhile_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw_data = make_raw_data(make_account())
    digest = raw_data.bin.write(kind=Kind.RAW, content=STRAY)
    list_stored = Bin.list_stored

    def list_and_refer(self: Bin) -> Iterator[StoredBlob]:
        yield from list_stored(self)
        RawData.objects.update(files={**raw_data.files, "late.csv": digest})

    monkeypatch.setattr(Bin, "list_stored", list_and_refer)

    run()

    assert raw_data.bin.read(kind=Kind.RAW, digest=digest) == STRAY


def test_file_that_is_stored_again_just_before_its_end_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw_data = make_raw_data(make_account())
    digest = raw_data.bin.write(kind=Kind.CODE, content=STRAY)
    os.utime(raw_data.bin.locate(kind=Kind.CODE, digest=digest), (1000, 1000))
    remove_old = Bin.remove_old

    def store_and_remove(self: Bin, blob: StoredBlob, *, before: float) -> bool:
        raw_data.bin.write(kind=Kind.CODE, content=STRAY)
        return remove_old(self, blob, before=before)

    monkeypatch.setattr(Bin, "remove_old", store_and_remove)

    removed = run()

    assert removed["files that no row refers to"].count == 0
    assert raw_data.bin.read(kind=Kind.CODE, digest=digest) == STRAY


@pytest.mark.usefixtures("either_storage", "no_grace")
def test_old_results_that_were_handed_out_go_and_the_fold_stays() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    fold = finish_fold(account, raw_data)
    age(days=10)

    removed = run(days=5)

    assert removed["predictions"].count == 2
    assert removed["attempts"].count == 1
    assert not any(kind == Kind.PREDICTIONS for _, kind, _ in list_blobs())
    row = make_client(account).get(f"/runapp/submissionfold/{fold.databoard_sf_id}/").json()
    assert (row["state"], row["test_predictions"]) == ("TESTED", None)


@pytest.mark.usefixtures("either_storage", "no_grace")
@pytest.mark.parametrize(
    ("days", "changes"),
    [
        pytest.param(None, {}, id="no-days-given"),
        pytest.param(15, {}, id="too-young"),
        pytest.param(5, {"new": True}, id="not-handed-out"),
        pytest.param(5, {"phase": "waiting"}, id="runs-again"),
    ],
)
def test_results_stay_unless_all_is_so(days: int | None, changes: dict[str, Any]) -> None:
    account = make_account()
    finish_fold(account, make_ready_dataset(account))
    age(days=10)
    SubmissionFold.objects.update(**changes)
    before = list_blobs()

    run(days=days)

    assert (Predictions.objects.count(), FoldAttempt.objects.count()) == (2, 1)
    assert list_blobs() == before


def test_rows_of_gone_workers_and_what_has_expired_go() -> None:
    account, now = make_account(), timezone.now()
    make_live_worker("gone")
    Worker.objects.update(seen_at=now - timedelta(days=1, minutes=1))
    make_live_worker("live")
    for name, ends in (("over", -1), ("open", 1)):
        Session.objects.create(
            session_key=name, session_data="", expire_date=now + timedelta(hours=ends)
        )
    make_token(account, expiry=now - timedelta(hours=1))
    make_token(account, expiry=now + timedelta(hours=1))
    make_token(account)

    removed = run()

    assert [removed[what].count for what in ("worker rows", "sessions", "tokens")] == [1, 1, 1]
    assert Worker.objects.get().name == "live"
    assert Session.objects.get().session_key == "open"
    assert AccessToken.objects.count() == 2


def test_failed_sign_ins_that_count_no_more_go() -> None:
    now = timezone.now()
    for name in ("old", "new"):
        AccessAttempt.objects.create(
            username=name, ip_address="192.0.2.1", user_agent="", failures_since_start=1
        )
    AccessAttempt.objects.filter(username="old").update(attempt_time=now - timedelta(seconds=901))

    removed = run()

    assert removed["failed sign-ins"].count == 1
    assert AccessAttempt.objects.get().username == "new"


def test_command_prints_what_it_removed() -> None:
    raw_data = make_raw_data(make_account())
    (raw_data.bin.path / Kind.RAW / ".incoming-old").write_bytes(STRAY)
    os.utime(raw_data.bin.path / Kind.RAW / ".incoming-old", (1000, 1000))

    dry, real = StringIO(), StringIO()
    call_command("prune", "--dry-run", stdout=dry)
    call_command("prune", "--days", "3", stdout=real)

    assert "would remove 1 files that no row refers to (8 bytes)" in dry.getvalue()
    assert "removed 1 files that no row refers to (8 bytes)" in real.getvalue()
    assert "removed 0 attempts\n" in real.getvalue()


@pytest.mark.parametrize("days", ["0", "-1", "1.5", "all", "36501", "9" * 5000])
def test_command_refuses_senseless_days(days: str) -> None:
    with pytest.raises(CommandError, match="whole number from 1 to"):
        call_command("prune", "--days", days)


def test_command_says_that_the_storage_is_away(settings: Any, tmp_path: Path) -> None:
    settings.STORAGE_REMOTE = S3Location("bucket", endpoint_url="http://127.0.0.1:9")

    with pytest.raises(CommandError, match="The storage is busy, full or unavailable"):
        call_command("prune", stdout=StringIO())


@pytest.mark.usefixtures("either_storage", "no_grace")
def test_files_of_folds_that_wait_stay() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    post_fold(make_client(account), raw_data)

    run(days=1)
    work()

    assert SubmissionFold.objects.get().state == "TESTED"
