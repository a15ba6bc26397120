"""What runs in the forked child: load, fit, predict and report, or split a dataset.

From the frame STARTED on, participant code shares this process and may forge anything that
leaves it; the supervisor checks all of it as if the participant had written it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pickle
import random
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, TextIO

import numpy as np

from runapp.runner.child import splitting
from runapp.runner.child.failure import pack_failure
from runapp.runner.child.files import save_files
from runapp.runner.child.workflow import ElementsWorkflow, OwnWorkflow, Workflow
from runapp.runner.contract import (
    CODE_FOLDER,
    DATA_FOLDER,
    FRAME_HEADER,
    KIT_FOLDER,
    STARTED_PAYLOAD,
    DataForm,
    FoldJob,
    FrameKind,
    Limits,
    SplitJob,
)
from runapp.runner.data import array_file, dataframes, labels
from runapp.runner.sandbox import enter as sandbox
from runapp.runner.sandbox.levels import Seal
from runapp.runner.sandbox.mounts import TMP

# A code that looks for randomness without a seed of its own gets the same bits at every run.
RANDOM_SEED = 0

# Participant code may replace what the module has.
_getpid = os.getpid
# What is flushed before a report is complete: our own streams, not what takes their place later.
_streams: list[TextIO] = []


@dataclass(frozen=True)
class Place:
    """Where a run is, and how it is sealed.

    Parameters
    ----------
    seal : Seal
        How this child is to be sealed.
    scratch : str
        The folder that the run works in.
    """

    seal: Seal
    scratch: str


@dataclass
class Stage:
    """How far a run has come."""

    is_before_fit: bool = True


@dataclass(frozen=True)
class Channel:
    """The socket to the supervisor: frames out, leave to go on and one descriptor in."""

    socket: socket.socket
    owner: int

    def send(self, kind: FrameKind, *payload: bytes | memoryview) -> None:
        self._leave_unless_owner()
        self.socket.sendall(FRAME_HEADER.pack(kind, sum(map(len, payload))))
        # Piece by piece: what is joined here would count as the submission's memory.
        for piece in payload:
            self.socket.sendall(piece)

    def send_file(self, kind: FrameKind, path: Path) -> None:
        self._leave_unless_owner()
        self.socket.sendall(FRAME_HEADER.pack(kind, path.stat().st_size))
        with path.open("rb") as file:
            self.socket.sendfile(file)

    def wait_for_leave(self) -> list[int]:
        """Wait while the supervisor takes its figures; return the descriptors that it gives."""
        _, descriptors, _, _ = socket.recv_fds(self.socket, 1, 1)
        return descriptors

    def _leave_unless_owner(self) -> None:
        # A process that participant code forked has come back into ours: it reports nothing.
        if _getpid() != self.owner:
            os._exit(0)


def run_fold(*, job_fd: int, x_train_fd: int, channel_fd: int, place: Place) -> NoReturn:
    """Train and test one fold; never returns.

    Parameters
    ----------
    job_fd : int
        An anonymous file that holds the packed `FoldJob`.
    x_train_fd : int
        The stored X of the train part.
    channel_fd : int
        A stream socket to the supervisor.
    place : Place
        Where the fold is, and how it is sealed.
    """
    job = FoldJob.unpack(_read_all(job_fd))
    channel = Channel(socket.socket(fileno=channel_fd), owner=os.getpid())
    y = array_file.read_column(memoryview(job.labels))
    scratch = place.scratch
    sandbox.become_nobody(seal=place.seal, limits=job.limits)
    save_files(Path(scratch, CODE_FOLDER), {"files": job.files})
    save_files(Path(scratch, KIT_FOLDER), {"files": job.kit_files})
    X_train = dataframes.map_frame(x_train_fd) if job.form is DataForm.FRAME else None
    if X_train is not None:
        os.close(x_train_fd)
    _enter(place, job.limits, memory_bytes=job.limits.memory_bytes + job.test_bytes)

    stage = Stage()

    def train_and_test() -> None:
        workflow = _make_workflow(job, scratch=scratch)
        X = X_train if X_train is not None else _unpickle(x_train_fd)
        workflow.load()
        stage.is_before_fit = False
        workflow.fit(X, y, job.train_is)
        channel.send(FrameKind.FITTED)
        channel.wait_for_leave()
        _send_predictions(channel, FrameKind.TRAIN_PREDICTIONS, workflow, X, job.n_train)
        # The test part comes only once the predictions of the train part have arrived.
        (x_test_fd,) = channel.wait_for_leave()
        X_test = (
            dataframes.map_frame(x_test_fd) if job.form is DataForm.FRAME else _unpickle(x_test_fd)
        )
        _send_predictions(channel, FrameKind.TEST_PREDICTIONS, workflow, X_test, job.n_test)

    _start(channel)
    _run_and_stay(train_and_test, channel=channel, scratch=scratch, stage=stage)


def run_split(
    *, job_fd: int, file_fds: Mapping[str, int], channel_fd: int, place: Place
) -> NoReturn:
    """Split a dataset; never returns.

    Parameters
    ----------
    job_fd : int
        An anonymous file that holds the packed `SplitJob`.
    file_fds : mapping of str to int
        The dataset's files by name.
    channel_fd : int
        A stream socket to the supervisor, which stores what it is sent.
    place : Place
        Where the split is, and how it is sealed.
    """
    job = SplitJob.unpack(_read_all(job_fd))
    channel = Channel(socket.socket(fileno=channel_fd), owner=os.getpid())
    scratch = place.scratch
    sandbox.become_nobody(seal=place.seal, limits=job.limits)
    _copy_files(Path(scratch, DATA_FOLDER), file_fds)
    _enter(place, job.limits, memory_bytes=job.limits.memory_bytes)

    def split() -> None:
        if job.kit_module is None:
            _split_csv(job, channel)
        else:
            _split_own(job, job.kit_module, channel)
        _flush_output()
        channel.send(FrameKind.SPLIT)

    _start(channel)
    _run_and_stay(split, channel=channel, scratch=scratch, stage=Stage())


def _copy_files(folder: Path, file_fds: Mapping[str, int]) -> None:
    """Give the split the files by their names, to do with as it likes."""
    with contextlib.ExitStack() as stack:
        files = {
            name: stack.enter_context(os.fdopen(descriptor, "rb"))
            for name, descriptor in file_fds.items()
        }
        save_files(folder, {"files": files})


def _split_csv(job: SplitJob, channel: Channel) -> None:
    assert job.held_out_test is not None
    assert job.random_state is not None
    parts = splitting.split_csv(
        path=Path(DATA_FOLDER, job.files[0]),
        target_column=job.target_column,
        held_out_test=job.held_out_test,
        random_state=job.random_state,
        is_classification=job.is_classification,
    )
    for x_kind, X, y_kind, y in (
        (FrameKind.X_TRAIN, parts.X_train, FrameKind.Y_TRAIN, parts.y_train),
        (FrameKind.X_TEST, parts.X_test, FrameKind.Y_TEST, parts.y_test),
    ):
        _send_written(channel, x_kind, partial(dataframes.write_frame, X))
        _send_written(channel, y_kind, partial(array_file.write_column, y))


def _split_own(job: SplitJob, kit_module: str, channel: Channel) -> None:
    kit = _import_kit(Path(DATA_FOLDER, kit_module).absolute())
    kit.prepare_data(DATA_FOLDER)
    for part, x_kind, y_kind in (
        ("train", FrameKind.X_TRAIN, FrameKind.Y_TRAIN),
        ("test", FrameKind.X_TEST, FrameKind.Y_TEST),
    ):
        X, y = getattr(kit, f"get_{part}_data")(DATA_FOLDER)
        checked = labels.as_labels(y)
        _check_lengths(X, checked, part=part)
        _send_written(channel, x_kind, partial(pickle.dump, X, protocol=5))
        _send_written(channel, y_kind, partial(array_file.write_column, checked))


def _check_lengths(X: Any, y: Any, *, part: str) -> None:
    rows = X.shape[0] if hasattr(X, "shape") else len(X) if hasattr(X, "__len__") else len(y)
    if len(y) == 0 or rows != len(y):
        raise splitting.SplitError(
            f"get_{part}_data returned {rows} rows of X and {len(y)} labels; "
            "both must be the same number and not 0."
        )


def _send_written(channel: Channel, kind: FrameKind, write: Callable[[Any], object]) -> None:
    path = Path(f".part-{kind}")
    with path.open("wb") as file:
        write(file)
    channel.send_file(kind, path)
    path.unlink()


def _make_workflow(job: FoldJob, *, scratch: str) -> Workflow:
    if job.kit_module is None:
        return ElementsWorkflow(package=CODE_FOLDER, elements=job.elements)
    kit = _import_kit(Path(scratch, KIT_FOLDER, job.kit_module))
    return OwnWorkflow(module=kit, package=CODE_FOLDER, n_train=job.n_train)


def _import_kit(path: Path) -> ModuleType:
    # Its neighbours may be imported by name, but never shadow what is installed.
    sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _send_predictions(
    channel: Channel, kind: FrameKind, workflow: Workflow, X: Any, n_rows: int
) -> None:
    predictions = workflow.predict(X, n_rows)
    shape = np.array(predictions.shape, dtype="<i8")
    values = predictions.astype("<f8", copy=False).reshape(-1).view(np.uint8)
    _flush_output()
    channel.send(kind, bytes([predictions.ndim]) + shape.tobytes(), values.data)


def _enter(place: Place, limits: Limits, *, memory_bytes: int) -> None:
    scratch = place.scratch
    os.chdir(scratch)
    tmp = TMP if place.seal.level.has_namespaces else scratch
    # joblib would share large arrays in /dev/shm, where they might outlive the run.
    os.environ.update(TMPDIR=tmp, HOME=scratch, JOBLIB_TEMP_FOLDER=tmp)
    # At the end: a file of the submission never shadows an installed module.
    sys.path += [scratch, str(Path(scratch, CODE_FOLDER))]
    random.seed(RANDOM_SEED)
    np.random.seed(RANDOM_SEED)
    _streams.extend((sys.stdout, sys.stderr))
    sandbox.enter(seal=place.seal, limits=limits, memory_bytes=memory_bytes, scratch=scratch)


def _start(channel: Channel) -> None:
    payload = STARTED_PAYLOAD.pack(_read_private_bytes(), time.process_time())
    channel.send(FrameKind.STARTED, payload)
    # The supervisor takes down what was used until here, which is nobody's.
    channel.wait_for_leave()


def _read_private_bytes() -> int:
    sizes = {}
    with open("/proc/self/status", "rb") as file:
        for line in file:
            name, _, value = line.partition(b":")
            if name in (b"RssAnon", b"RssShmem"):
                sizes[name] = int(value.split()[0]) * 1024
    return sum(sizes.values())


def _run_and_stay(
    work: Callable[[], None], *, channel: Channel, scratch: str, stage: Stage
) -> NoReturn:
    try:
        try:
            work()
        except BaseException as error:
            failure = pack_failure(error, scratch=scratch, is_before_fit=stage.is_before_fit)
            _flush_output()
            channel.send(FrameKind.FAILED, failure)
            # Within the handler: what the traceback holds is still in memory.
            channel.wait_for_leave()
        # The report is complete: the supervisor takes its figures and kills this process.
        channel.wait_for_leave()
    finally:
        # No atexit handlers, no finalisers: nothing of the submission runs after its report.
        os._exit(1)


def _flush_output() -> None:
    for stream in _streams:
        # The submission may have closed it.
        with contextlib.suppress(Exception):
            stream.flush()


def _read_all(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)
        return file.read()


def _unpickle(descriptor: int) -> Any:
    os.lseek(descriptor, 0, os.SEEK_SET)
    with os.fdopen(os.dup(descriptor), "rb") as file:
        return pickle.load(file)
