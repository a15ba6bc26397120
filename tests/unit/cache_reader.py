"""A process that reads blobs through a cache, over and over, and checks them."""

from __future__ import annotations

import hashlib
import random
import sys
from pathlib import Path

from runapp.storage import Kind, RemoteStorage
from runapp.storage.blobs import Pulse
from runapp.storage.cache import Cache
from runapp.storage.s3 import S3Objects
from tests.object_server import ObjectServer


class Slow:
    """Takes its time over each download, so that it can be killed in the middle."""

    def __init__(self) -> None:
        self.is_told = False

    def __call__(self) -> None:
        if not self.is_told:
            self.is_told = True
            print("begun", flush=True)
            sys.stdin.readline()  # nobody writes


def read_on(server: ObjectServer, prefix: str, root: Path, max_bytes: int, rest: list[str]) -> None:
    storage = RemoteStorage(
        objects=S3Objects(server.locate(prefix)), cache=Cache(root=root, max_bytes=max_bytes)
    )
    seed, n_rounds, *digests = rest
    chosen = random.Random(int(seed))
    pulse: Pulse = Slow() if seed == "0" else lambda: None
    for _ in range(int(n_rounds)):
        digest = chosen.choice(digests)
        with storage.get_bin("key").open(kind=Kind.FEATURES, digest=digest, pulse=pulse) as file:
            # By its path, as a keeper opens it: it must be there for as long as it is open.
            found = hashlib.sha256(Path(file.name).read_bytes()).hexdigest()
        assert found == digest


if __name__ == "__main__":
    port, prefix, root, max_bytes, *rest = sys.argv[1:]
    server = ObjectServer(port=int(port), process=None)  # type: ignore[arg-type]
    read_on(server, prefix, Path(root), int(max_bytes), rest)
    print("done", flush=True)
