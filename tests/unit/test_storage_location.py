"""What DATARUN_STORAGE_URL may say."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from datarun.environment import read_storage
from runapp.storage.location import BadLocation, S3Location, parse_location

HOME = Path("/home/datarun")


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("file:///srv/datarun", Path("/srv/datarun")),
        ("file:///srv/data%20run", Path("/srv/data run")),
        ("s3://bucket", S3Location("bucket")),
        ("s3://bucket/", S3Location("bucket")),
        ("s3://bucket/a/b/", S3Location("bucket", "a/b")),
        (
            "s3://bucket/a?endpoint_url=http://127.0.0.1:9000&region_name=eu&addressing_style=path",
            S3Location("bucket", "a", "http://127.0.0.1:9000", "eu", "path"),
        ),
    ],
)
def test_location_is_understood(url: str, location: Path | S3Location) -> None:
    assert parse_location(url) == location


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("/srv/datarun", "must look like"),
        ("http://bucket/prefix", "must look like"),
        ("s3://[bucket", "must look like"),
        ("file://srv/datarun", "absolute path"),
        ("file:///srv?x=1", "absolute path"),
        ("s3:///prefix", "name a bucket"),
        ("s3://bucket/a#b", "name a bucket"),
        ("s3://key:word@bucket/prefix", "credentials"),
        ("s3://bucket:9000/prefix", "port"),
        ("s3://bucket?endpoint=http://host", "unknown options"),
        ("s3://bucket?region_name=", "once, with a value"),
        ("s3://bucket?region_name=a&region_name=b", "once, with a value"),
        ("s3://bucket?endpoint_url=127.0.0.1:9000", "endpoint_url as"),
        ("s3://bucket?endpoint_url=http://host:port", "endpoint_url as"),
        ("s3://bucket?endpoint_url=http://[host", "endpoint_url as"),
        ("s3://bucket?addressing_style=odd", "addressing_style as"),
    ],
)
def test_bad_location_is_told_in_a_sentence(url: str, sentence: str) -> None:
    with pytest.raises(BadLocation, match=sentence) as caught:
        parse_location(url)

    assert "word" not in str(caught.value)


def test_storage_is_a_folder_of_the_home_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATARUN_STORAGE_URL", raising=False)

    assert read_storage(home=HOME) == (HOME / "storage", None)


def test_remote_storage_is_read_through_a_cache_in_the_home(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATARUN_STORAGE_URL", "s3://bucket/prefix")

    assert read_storage(home=HOME) == (HOME / "cache", S3Location("bucket", "prefix"))


def test_folder_of_the_url_is_the_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATARUN_STORAGE_URL", "file:///srv/datarun")

    assert read_storage(home=HOME) == (Path("/srv/datarun"), None)


def test_bad_url_is_improperly_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATARUN_STORAGE_URL", "ftp://bucket")

    with pytest.raises(ImproperlyConfigured, match=r"^DATARUN_STORAGE_URL must look like file:"):
        read_storage(home=HOME)
