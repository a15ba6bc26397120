"""Objects of an S3-compatible store, by django-storages and boto3."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from storages.backends.s3 import S3Storage

from runapp.common.exceptions import StorageAway
from runapp.storage import Pulse, StoredBlob
from runapp.storage.blobs import PIECE_BYTES
from runapp.storage.location import S3Location
from runapp.storage.remote import Download

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 2
READ_SECONDS = 5
TRIES = 2
# After a store did not answer, who asks within this time is refused at once: a web server whose
# threads all wait for it would serve nothing else either.
REST_SECONDS = 1.0
# Up to here a blob goes in one request, and the store compares the whole with its digest.
MOST_AT_ONCE_BYTES = 16 * 2**20
MOST_REMOVED_AT_ONCE = 1000
_MISSING = ("NoSuchKey", "404")


class S3Objects:
    """Objects of an S3-compatible store, by their names below a prefix.

    Credentials are those of the AWS_* variables, or whatever else boto3 finds.
    """

    def __init__(self, location: S3Location) -> None:
        self._location = location
        self._prefix = f"{location.prefix}/" if location.prefix else ""
        self._rests_until = 0.0

    @cached_property
    def _client(self) -> Any:
        # May be used by several threads at once, as the documentation of boto3 says of clients.
        location = self._location
        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": TRIES},
            s3={"addressing_style": location.addressing_style or "auto"},
            # Digests of our own are sent and compared; not every store knows the newer ones.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        storage = S3Storage(
            bucket_name=location.bucket,
            endpoint_url=location.endpoint_url,
            region_name=location.region_name,
            client_config=config,
        )
        return storage.bucket.meta.client

    def upload(self, path: Path, name: str, *, digest: str, pulse: Pulse) -> None:
        """Store a file whole or not at all, and check what arrived."""
        size = path.stat().st_size
        with self._asking(), path.open("rb") as file:
            if size <= MOST_AT_ONCE_BYTES:
                pulse()
                # The store refuses what has not this digest.
                checksum = base64.b64encode(bytes.fromhex(digest)).decode()
                self._client.put_object(**self._name(name), Body=file, ChecksumSHA256=checksum)
                return
            self._client.upload_fileobj(
                file,
                self._location.bucket,
                self._prefix + name,
                # Of each part, as there is none of a whole that comes in parts.
                ExtraArgs={"ChecksumAlgorithm": "SHA256"},
                Callback=lambda _: pulse(),
                Config=TransferConfig(
                    multipart_threshold=MOST_AT_ONCE_BYTES,
                    multipart_chunksize=MOST_AT_ONCE_BYTES,
                    use_threads=False,
                ),
            )
        if self.measure(name) != size:
            self.remove(name)
            logger.error("an upload arrived with another size")
            raise StorageAway()

    @contextmanager
    def download(self, name: str) -> Iterator[Download | None]:
        """Fetch an object; None if there is none of that name."""
        with self._asking():
            answer = self._ask_for(self._client.get_object, **self._name(name))
        if answer is None:
            yield None
            return
        body = answer["Body"]
        try:
            yield Download(size=answer["ContentLength"], pieces=self._read(body))
        finally:
            body.close()

    def _read(self, body: Any) -> Iterator[bytes]:
        pieces = body.iter_chunks(PIECE_BYTES)
        while True:
            with self._asking():
                piece = next(pieces, None)
            if piece is None:
                return
            yield piece

    def measure(self, name: str) -> int | None:
        """Return the size of an object in bytes; None if there is none of that name."""
        with self._asking():
            answer = self._ask_for(self._client.head_object, **self._name(name))
        return None if answer is None else answer["ContentLength"]

    def list_objects(self, prefix: str) -> Iterator[StoredBlob]:
        """Yield all objects below a prefix, named without it."""
        whole = self._prefix + prefix
        with self._asking():
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._location.bucket, Prefix=whole):
                for found in page.get("Contents", ()):
                    path = found["Key"].removeprefix(whole)
                    yield StoredBlob(path, found["Size"], found["LastModified"].timestamp())

    def list_folders(self, prefix: str) -> list[str]:
        """Return the names that come directly below a prefix."""
        whole = self._prefix + prefix
        with self._asking():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._location.bucket, Prefix=whole, Delimiter="/"
            )
            return [
                found["Prefix"].removeprefix(whole).rstrip("/")
                for page in pages
                for found in page.get("CommonPrefixes", ())
            ]

    def remove(self, name: str, *, before: float | None = None) -> bool:
        """Remove an object if it was written before; tell whether it did."""
        with self._asking():
            if before is not None:
                answer = self._ask_for(self._client.head_object, **self._name(name))
                if answer is None or answer["LastModified"].timestamp() >= before:
                    return False
            self._client.delete_object(**self._name(name))
        return True

    def remove_all(self, prefix: str) -> None:
        """Remove all objects below a prefix."""
        bucket, names = self._location.bucket, [found.path for found in self.list_objects(prefix)]
        for start in range(0, len(names), MOST_REMOVED_AT_ONCE):
            some = names[start : start + MOST_REMOVED_AT_ONCE]
            keys = [{"Key": self._prefix + prefix + name} for name in some]
            with self._asking():
                answer = self._client.delete_objects(
                    Bucket=bucket, Delete={"Objects": keys, "Quiet": True}
                )
            if answer.get("Errors"):
                logger.error("the object store kept %d objects", len(answer["Errors"]))
                raise StorageAway()

    def _name(self, name: str) -> dict[str, str]:
        return {"Bucket": self._location.bucket, "Key": self._prefix + name}

    def _ask_for(self, ask: Any, **words: str) -> dict[str, Any] | None:
        """Ask about an object; None if there is none of that name."""
        try:
            answer: dict[str, Any] = ask(**words)
        except ClientError as error:
            if error.response["Error"]["Code"] in _MISSING:
                return None
            raise
        return answer

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Tell errors of the store.

        Raises
        ------
        StorageAway
            When it does not answer or refuses.
        """
        if time.monotonic() < self._rests_until:
            raise StorageAway()
        try:
            yield
        except (BotoCoreError, Boto3Error, ClientError, OSError) as error:
            if isinstance(error, HTTPClientError):
                self._rests_until = time.monotonic() + REST_SECONDS
            logger.warning("the object store refused: %s", error)
            raise StorageAway() from error
