"""Hostile submissions: what they are, what they are baited with and what must come of them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from runapp.runner.sandbox.levels import Level
from test_files import local
from test_files.examples import DIABETES, IRIS, RANDOM_STATE, Example

FOLDER = Path(__file__).with_name("hostile")
PROJECT = FOLDER.parents[1]
CASES = sorted(path.parent.name for path in FOLDER.glob("*/expected.json"))
# A case that nothing else ends must not hold up the others for long.
LIMITS = {"wall_seconds": 30}


@dataclass(frozen=True)
class Case:
    """A hostile submission and what must come of it; see `expected.json` in its folder.

    What differs at a level is under `at`, and on a host without control groups under
    "<level> without groups". A level that is named there is tried even where it is not the best.
    """

    name: str
    elements: str
    state: str
    error_code: str | None
    limits: Mapping[str, float]
    log_contains: tuple[str, ...] = ()
    log_lacks: tuple[str, ...] = ()
    row: Any = None  # what it predicts for every row, when it is tested
    rows_without: str | None = None  # a class that its training rows lack
    after: str | None = None  # the case that is to run right before it
    leaves: tuple[str, ...] = ()  # what it does change outside; nothing, with few exceptions
    why: str = ""  # a word on what is expected, above all where less is contained

    @property
    def example(self) -> Example:
        return DIABETES if self.elements == "regressor" else IRIS

    @property
    def train_is(self) -> list[int]:
        y = split(self.example.name).y_train
        return np.flatnonzero(y != self.rows_without).tolist()

    def write_files(self, folder: Path, bait: Bait) -> list[Path]:
        """Copy the submission into a folder, with the modules that the cases share."""
        folder.mkdir(parents=True)
        sources = {path.name: path.read_bytes() for path in (FOLDER / self.name).glob("*.py")}
        sources["attempts.py"] = (FOLDER / "attempts.py").read_bytes()
        sources["bait.py"] = bait.to_source().encode()
        for name, content in sources.items():
            (folder / name).write_bytes(content)
        return [folder / name for name in sorted(sources)]


def load_case(name: str, level: Level, *, has_groups: bool) -> Case:
    """Read a case as it is expected at a level, with control groups or without."""
    expected = _read_expected(name)
    differences, key = expected.pop("at", {}), level.name.lower()
    expected |= differences.get(key, {})
    if not has_groups:
        expected |= differences.get(f"{key} without groups", {})
    limits = {**LIMITS, **expected.pop("limits", {})}
    return Case(name=name, limits=limits, **expected)


def list_cases_at(level: Level) -> list[str]:
    """Return the cases that are worth a try at a level that is not the best of the host."""
    key = level.name.lower()
    return [name for name in CASES if key in _read_expected(name).get("at", {})]


def _read_expected(name: str) -> dict[str, Any]:
    expected: dict[str, Any] = json.loads((FOLDER / name / "expected.json").read_text())
    return expected


@cache
def split(name: str) -> local.Parts:
    example = {"iris": IRIS, "diabetes": DIABETES}[name]
    assert example.held_out_test is not None
    return local.split_standard(
        example.data_file, example.target, example.held_out_test, RANDOM_STATE
    )


@dataclass(frozen=True)
class Bait:
    """What lies about on the host for a fold to reach, and what would show that one did."""

    folder: Path
    secret: str
    # What the cases call whatever might outlive them: processes, files, sockets, keys.
    mark: str
    tcp: socket.socket
    udp: socket.socket
    abstract: socket.socket
    by_path: socket.socket
    bystander: subprocess.Popen[bytes]

    def to_source(self) -> str:
        """Return the module by which the cases know where to look."""
        constants = {
            "HOME": str(self.folder / "home"),
            "OTHER_RUN": str(self.folder / "scratch" / "run-other"),
            "OUTSIDE": str(self.folder / "outside"),
            "PROJECT": str(PROJECT),
            "TCP_PORT": self.tcp.getsockname()[1],
            "UDP_PORT": self.udp.getsockname()[1],
            "ABSTRACT_SOCKET": self.abstract.getsockname()[1:].decode(),
            "SOCKET_FILE": self.by_path.getsockname(),
            "BYSTANDER": self.bystander.pid,
            "MARK": self.mark,
            "SHARED_MEMORY_KEY": self.shared_memory_key,
        }
        return "".join(f"{name} = {value!r}\n" for name, value in constants.items())

    def find_marks(self) -> list[str]:
        """Tell what a fold has done to it."""
        marks = [f"a connection to {name}" for name, listener in self._listeners if ask(listener)]
        outside = self.folder / "outside"
        if sorted(path.name for path in outside.iterdir()) != ["file"]:
            marks.append(f"files outside: {sorted(outside.iterdir())}")
        if (outside / "file").read_text() != "kept":
            marks.append("the file outside was changed")
        if self.bystander.poll() is not None:
            marks.append(f"the bystander ended with {self.bystander.returncode}")
        elif psutil.Process(self.bystander.pid).status() == psutil.STATUS_STOPPED:
            marks.append("the bystander was stopped")
        return marks

    @property
    def shared_memory_key(self) -> int:
        return int(self.mark.rpartition("-")[2], 16)

    @property
    def _listeners(self) -> list[tuple[str, socket.socket]]:
        return [
            ("the loopback address", self.tcp),
            ("the loopback address by UDP", self.udp),
            ("the abstract socket", self.abstract),
            ("the socket file", self.by_path),
        ]


def ask(listener: socket.socket) -> bool:
    """Tell whether anybody came, without waiting."""
    with contextlib.suppress(BlockingIOError):
        if listener.type is socket.SOCK_DGRAM:
            return bool(listener.recv(1))
        connection, _ = listener.accept()
        connection.close()
        return True
    return False


@contextlib.contextmanager
def laid_bait(folder: Path) -> Iterator[Bait]:
    """Lay out what the cases try to reach; everything works for whoever is not held back."""
    token, secret = secrets.token_hex(3), secrets.token_hex(16)
    _write_bait_files(folder, secret)
    with contextlib.ExitStack() as stack:
        listeners = [
            _listen(stack, socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            _listen(stack, socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
            _listen(stack, socket.AF_UNIX, socket.SOCK_STREAM, f"\0bait-{token}"),
            _listen(stack, socket.AF_UNIX, socket.SOCK_STREAM, _name_socket(folder)),
        ]
        os.chmod(_name_socket(folder), 0o777)
        # A bystander: a process of the same user with a secret in its environment.
        bystander = subprocess.Popen(["sleep", "3600"], env={"BAIT_SECRET": secret})
        stack.callback(bystander.wait)
        stack.callback(bystander.kill)
        # A process has 15 characters for its name: prctl(2), PR_SET_NAME.
        yield Bait(folder, secret, f"hostile-{token}", *listeners, bystander)


def _write_bait_files(folder: Path, secret: str) -> None:
    for name in ("home", "outside", "scratch/run-other/submission"):
        (folder / name).mkdir(parents=True)
    (folder / "home" / "secret_key").write_text(secret)
    (folder / "outside" / "file").write_text("kept")
    (folder / "scratch/run-other/submission/classifier.py").write_text(f"# {secret}\n")
    with contextlib.closing(sqlite3.connect(folder / "home" / "db.sqlite3")) as database:
        database.execute("create table labels (secret)")
        database.execute("insert into labels values (?)", [secret])
        database.commit()
    # What a mode alone would keep back is not what is tried here.
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)


def _name_socket(folder: Path) -> str:
    # 108 bytes is the most that a path of a socket may have: unix(7).
    return os.path.relpath(folder / "socket") if len(str(folder)) > 90 else str(folder / "socket")


def _listen(
    stack: contextlib.ExitStack, family: int, kind: int, address: tuple[str, int] | str
) -> socket.socket:
    listener = stack.enter_context(socket.socket(family, kind))
    listener.bind(address)
    if kind == socket.SOCK_STREAM:
        listener.listen()
    listener.setblocking(False)
    return listener


def find_marked_on_host(bait: Bait) -> list[str]:
    """Tell of everything on this host that a case has named and left behind."""
    mark, key = bait.mark, bait.shared_memory_key
    marked = [f"process {process.pid}" for process in psutil.process_iter() if _is(process, mark)]
    for folder in ("/", "/tmp", "/var", "/var/tmp", "/dev/shm", "/dev/mqueue"):
        with contextlib.suppress(FileNotFoundError):
            marked += [f"{folder}/{name}" for name in os.listdir(folder) if mark in name]
    for path, pattern in (
        ("/proc/net/unix", rf"\S*{mark}\S*"),
        ("/proc/keys", rf"{mark}\S*"),
        ("/proc/sysvipc/shm", rf"^ *{key}\b"),
    ):
        with contextlib.suppress(OSError):
            text = Path(path).read_text(errors="replace")
            marked += [f"{path}: {found}" for found in re.findall(pattern, text, re.MULTILINE)]
    return marked


def _is(process: psutil.Process, name: str) -> bool:
    # The name itself: psutil's own `name` would complete it from the command line.
    with contextlib.suppress(OSError, psutil.NoSuchProcess):
        is_called_so = Path(f"/proc/{process.pid}/comm").read_text(errors="replace") == f"{name}\n"
        return is_called_so and process.status() != psutil.STATUS_ZOMBIE
    return False
