"""An S3-compatible server for the tests: moto's, over real HTTP, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import requests

from datarun.processes import die_with
from runapp.storage.location import S3Location
from tests.ports import find_free_port

HOST = "127.0.0.1"
BUCKET = "datarun-test"
REGION = "us-east-1"
DEADLINE_SECONDS = 60.0
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "tester",
    "AWS_SECRET_ACCESS_KEY": "not-a-secret",
    "AWS_DEFAULT_REGION": REGION,
}


@dataclass
class ObjectServer:
    """A running server with one empty bucket."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def locate(self, prefix: str) -> S3Location:
        return S3Location(bucket=BUCKET, prefix=prefix, endpoint_url=self.url, region_name=REGION)

    def make_storage_url(self, prefix: str) -> str:
        return f"s3://{BUCKET}/{prefix}?endpoint_url={self.url}"

    def make_client(self) -> Any:
        import boto3  # for those tests that need it
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            config=Config(connect_timeout=5, read_timeout=10),
        )

    def list_names(self, prefix: str) -> list[str]:
        """Return the names of all objects below a prefix."""
        pages = self.make_client().get_paginator("list_objects_v2")
        found = pages.paginate(Bucket=BUCKET, Prefix=f"{prefix}/")
        return [entry["Key"] for page in found for entry in page.get("Contents", ())]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def serving_objects() -> Iterator[ObjectServer]:
    """Serve objects from memory until the block ends."""
    port = find_free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=partial(die_with, os.getpid()),
    )
    server = ObjectServer(port=port, process=process)
    try:
        _wait_until_it_answers(server)
        server.make_client().create_bucket(Bucket=BUCKET)
        yield server
    finally:
        server.stop()


def _wait_until_it_answers(server: ObjectServer) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        assert server.process.poll() is None, "the object server has ended"
        with suppress(requests.RequestException):
            requests.get(f"{server.url}/moto-api/", timeout=5)
            return
        time.sleep(0.1)
    raise AssertionError("the object server did not answer in time")
