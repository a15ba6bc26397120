"""What a self-test lays out for its probing runs, and what it finds touched afterwards.

The runs tell what they have tried; here is what no run can talk away: a listener that was
connected to, a canary that was written to, a process that is still there.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import io
import os
import re
import secrets
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from runapp.runner.data import array_file
from runapp.runner.sandbox.scratch import open_scratch, remove_folder, sweep_scratch
from runapp.runner.selftest.promises import Promise

_PROJECT = Path(__file__).resolve().parents[3]
# Its value says nothing; its name in the environment of another process is what is looked for.
_VARIABLE = "SELFTEST_CANARY"
_FOLDER = ".selftest"
_WORLD = "datarun-selftest-"
_CANARY = b"nobody may read or write this\n"
_SHARED_FOLDERS = ("/tmp", "/dev/shm")  # noqa: S108 (where a run would leave things)
_MOST_NAME_SERVERS = 2
# What keeps a run from these is its seal, and not that they are another user's.
_EVERYBODYS = 0o666
# A marker with one of these beside it is a label, or an X, and of whom.
_TRAINING, _VALIDATION, _TEST, _TEST_X = 1.0, 2.0, 3.0, 4.0
_MARKER = struct.Struct("<d")
N_TRAINING, N_TRAIN, N_TEST = 8, 16, 8
_IPC_RMID = 0


@dataclass
class Bait:
    """Files, sockets and a process that only a run that breaks its promises gets at.

    Parameters
    ----------
    folder : Path
        Of this self-test alone, below what the worker keeps its data in.
    world : Path
        Another one, which every user of the machine may enter.
    private : tuple of Path
        Folders that no run may see.
    """

    folder: Path
    world: Path
    private: tuple[Path, ...]
    # Short enough for a process's name: prctl(2), PR_SET_NAME.
    token: str = field(default_factory=lambda: f"dr{secrets.token_hex(5)}")
    marker: float = field(default_factory=lambda: 1.0 + secrets.randbits(52) / 2**52)
    shared_memory: int = field(default_factory=lambda: 1 + secrets.randbits(30))
    tcp: list[socket.socket] = field(default_factory=list)
    udp: list[socket.socket] = field(default_factory=list)
    unix: list[socket.socket] = field(default_factory=list)

    @property
    def labels(self) -> bytes:
        """The labels of the training rows, as a job carries them."""
        packed = io.BytesIO()
        array_file.write_column(self._mark(_TRAINING, N_TRAINING), packed)
        return packed.getvalue()

    @property
    def canaries(self) -> list[Path]:
        return [self.folder / "canary", self.world / "canary"]

    def describe(self) -> dict[str, Any]:
        """Return what the probes are to be told, as JSON holds it."""
        return {
            "token": self.token,
            "marker": _MARKER.pack(self.marker).hex(),
            "variable": _VARIABLE,
            "shared_memory": self.shared_memory,
            "tcp": [[listener.family, listener.getsockname()[:2]] for listener in self.tcp],
            "udp": self.udp[0].getsockname(),
            "name_servers": _list_name_servers(),
            "abstract_socket": self.token,
            "socket_file": str(self.world / "socket"),
            "unreadable": [
                *map(str, self.canaries),
                "/etc/shadow",
                str(Path(__file__).resolve()),
                str(_PROJECT / "manage.py"),
            ],
            "folders": [*map(str, (*self.private, self.folder, self.world))],
            "canaries": [*map(str, self.canaries)],
            "label_files": [str(self.folder / name) for name in ("y", "X_test")],
        }

    def lay_out(self) -> None:
        """Write the files and open the sockets."""
        for canary in self.canaries:
            canary.write_bytes(_CANARY)
            canary.chmod(_EVERYBODYS)
        held_out = [self._mark(_VALIDATION, N_TRAIN - N_TRAINING), self._mark(_TEST, N_TEST)]
        (self.folder / "y").write_bytes(np.concatenate(held_out).tobytes())
        _write_frame(self.folder / "X_train", np.arange(N_TRAIN, dtype=np.float64))
        _write_frame(self.folder / "X_test", self._mark(_TEST_X, N_TEST))
        self._listen()

    def open_parts(self) -> tuple[BinaryIO, BinaryIO]:
        """Open the X of both parts."""
        return (self.folder / "X_train").open("rb"), (self.folder / "X_test").open("rb")

    def _listen(self) -> None:
        self.tcp.append(_listen(socket.AF_INET, ("127.0.0.1", 0)))
        with contextlib.suppress(OSError):  # not every machine has it
            self.tcp.append(_listen(socket.AF_INET6, ("::1", 0)))
        self.udp.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.udp[0].bind(("127.0.0.1", 0))
        for name in (b"\0" + self.token.encode(), str(self.world / "socket")):
            self.unix.append(_listen(socket.AF_UNIX, name))
        os.chmod(self.world / "socket", _EVERYBODYS)

    def find_traces(self) -> dict[Promise, list[str]]:
        """Return what the runs have touched, whatever they told."""
        traces: dict[Promise, list[str]] = {promise: [] for promise in Promise}
        if select.select([*self.tcp, *self.udp, *self.unix], [], [], 0)[0]:
            traces[Promise.NETWORK].append("a listener outside was reached")
        for canary in self.canaries:
            if canary.read_bytes() != _CANARY:
                traces[Promise.FILES].append(f"{canary} was written to")
        for path in self._list_left():
            traces[Promise.FILES].append(f"{path} is on the host")
            traces[Promise.NEIGHBOURS].append(f"{path} is on the host")
        if self.find_processes():
            traces[Promise.PROCESSES].append("a process outlives its run")
        return traces

    def find_processes(self) -> list[int]:
        """Return the processes that a run has left; their names are the same in every namespace."""
        found = []
        for path in Path("/proc").glob("[0-9]*/comm"):
            with contextlib.suppress(OSError):  # it just ended
                if path.read_text(errors="replace").strip() == self.token:
                    found.append(int(path.parent.name))
        return found

    def clear(self) -> None:
        """Remove what was laid out, and what runs have left outside of theirs."""
        for listener in (*self.tcp, *self.udp, *self.unix):
            listener.close()
        for process in self.find_processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        for path in self._list_left():
            path.unlink(missing_ok=True)
        _remove_shared_memory(self.shared_memory)

    def _list_left(self) -> list[Path]:
        folders = [*map(Path, _SHARED_FOLDERS), self.folder, self.world, *self.private]
        return [path for folder in folders if (path := folder / self.token).exists()]

    def _mark(self, kind: float, n_rows: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array([self.marker, kind] * (n_rows // 2))


@contextlib.contextmanager
def lay_bait(*, folder: Path, private: Sequence[Path]) -> Iterator[Bait]:
    """Lay everything out for the probes, and remove it afterwards.

    Parameters
    ----------
    folder : Path
        Where the worker keeps its data.
    private : sequence of Path
        Folders that no run may see.

    Yields
    ------
    Bait
        In a folder of its own, below `folder`.
    """
    root = folder / _FOLDER
    sweep_scratch(root)  # a worker may have been killed at its self-test
    with open_scratch(root) as own, _open_world() as world, _run_process():
        bait = Bait(folder=own, world=world, private=(_PROJECT, folder, *private))
        try:
            bait.lay_out()
            yield bait
        finally:
            bait.clear()


def _listen(family: int, address: Any) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.bind(address)
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


@contextlib.contextmanager
def _open_world() -> Iterator[Path]:
    """Make a folder where everybody has theirs, which not even a private TMPDIR is."""
    shared = Path(_SHARED_FOLDERS[0])
    for left in shared.glob(f"{_WORLD}*"):
        _sweep(left)
    draft = Path(tempfile.mkdtemp(prefix=f"new-{_WORLD}", dir=shared))
    lock = os.open(draft, os.O_RDONLY | os.O_DIRECTORY)
    # As sandbox/scratch.py does: only a locked folder has the name that is swept.
    fcntl.flock(lock, fcntl.LOCK_EX)
    world = draft.rename(draft.with_name(draft.name.removeprefix("new-")))
    try:
        world.chmod(0o755)
        yield world
    finally:
        remove_folder(world)
        os.close(lock)


def _sweep(folder: Path) -> None:
    """Remove what a worker of this user has left that was killed at its self-test."""
    with contextlib.suppress(OSError):
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if os.fstat(lock).st_uid == os.getuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove_folder(folder)
        finally:
            os.close(lock)


@contextlib.contextmanager
def _run_process() -> Iterator[None]:
    # It reads until its other end closes, so that it does not outlive a worker that is killed.
    process = subprocess.Popen(
        [sys.executable, "-ISc", "import os; os.read(0, 1)"],
        env={_VARIABLE: "1"},
        stdin=subprocess.PIPE,
    )
    try:
        yield
    finally:
        # A slot that was forked meanwhile holds our end as well: closing it would not be seen.
        process.kill()
        process.communicate()


def _list_name_servers() -> list[str]:
    try:
        text = Path("/etc/resolv.conf").read_text(errors="replace")
    except OSError:
        return []
    return re.findall(r"^nameserver\s+([\da-fA-F.:]+)\s*$", text, re.M)[:_MOST_NAME_SERVERS]


def _write_frame(path: Path, column: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    # As data/dataframes.py writes it, which would load pandas into the worker.
    axes = {"columns": {"names": [None], "range": [0, 1, 1]}}
    axes["index"] = {"names": [None], "range": [0, len(column), 1]}
    with path.open("wb") as file:
        header = {"frame": [column.dtype.str], **axes}
        array_file.write_container(file, header=header, buffers=[column.reshape(1, -1)])


def _remove_shared_memory(key: int) -> None:
    libc = ctypes.CDLL(None)
    segment = libc.shmget(key, 0, 0)
    if segment >= 0:
        libc.shmctl(segment, _IPC_RMID, None)
