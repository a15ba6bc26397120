"""Other ways to train many folds on one machine, in the project's own environment."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench.overhead.answers import read_answer, read_start
from bench.overhead.work import SLOTS, Answer, Indices, Timed, Work, get_trainer
from test_files.demo_server import PROJECT

COLD_FOLDS = 6
WAIT_SECONDS = 300
POLL_SECONDS = 0.2
STOP_SECONDS = 20
# Long enough for every process of a pool to take part in warming up.
WARM_SECONDS = 0.2

Map = Callable[[Callable[[Indices], Answer], Sequence[Indices]], Iterable[Answer]]


def measure_loky(work: Work) -> Timed:
    """Train in joblib's loky processes, which are warm."""
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor

    with _stored(work) as path, Parallel(n_jobs=SLOTS, backend="loky") as parallel:
        _warm_all(lambda: parallel(delayed(_warm)(path) for _ in range(2 * SLOTS)))
        jobs = [delayed(_train)(path, train_is) for train_is in work.folds]
        timed = _time(work, lambda: parallel(jobs))
    # It would live on in this process, and be waited for.
    get_reusable_executor().shutdown(wait=True)
    return timed


def measure_executor(work: Work) -> Timed:
    """Train in a ProcessPoolExecutor that was forked from a warm parent."""
    context = multiprocessing.get_context("fork")
    with _stored(work) as path:
        get_trainer(path)
        with ProcessPoolExecutor(SLOTS, mp_context=context) as pool:
            _warm_all(lambda: pool.map(_warm, [path] * (2 * SLOTS)))
            return _time(work, lambda: pool.map(partial(_train, path), work.folds))


def measure_cold(work: Work) -> Timed:
    """Train some of the folds in a new Python each, two at a time."""
    with _stored(work) as path, ThreadPoolExecutor(SLOTS) as pool:
        numbers = range(min(COLD_FOLDS, len(work.folds)))
        return _time(work, lambda: pool.map(partial(_train_cold, path), numbers))


def measure_celery(work: Work) -> Timed:
    """Train in the processes of a Celery worker; from the first start to the last answer."""
    # Not earlier: joblib's and the executor's processes need none of it.
    from bench.overhead import celery_peer

    with _stored(work) as path:
        folder = Path(path).parent
        for name in ("messages", "control", "answers", "gate"):
            (folder / name).mkdir()
        app = celery_peer.make_app(folder)
        for _ in range(SLOTS):
            app.send_task("enter")
        for number, train_is in enumerate(work.folds):
            app.send_task("train", (number, train_is.tolist()))
        paths = [folder / "answers" / f"{number}.npz" for number in range(len(work.folds))]
        with _celery_worker(folder, celery_peer.FOLDER_VARIABLE) as worker:
            _wait_for(paths, worker)
        seconds = max(map(os.path.getmtime, paths)) - min(map(read_start, paths))
        return Timed(seconds, tuple(read_answer(path).digest for path in paths))


def _train(path: str, train_is: Indices) -> Answer:
    return get_trainer(path).train(train_is)


def _warm(path: str) -> int:
    """Make the process ready and tell which it is."""
    get_trainer(path)
    time.sleep(WARM_SECONDS)
    return os.getpid()


def _warm_all(warm: Callable[[], Iterable[int]]) -> None:
    while len(set(warm())) < SLOTS:
        pass


def _time(work: Work, train_all: Callable[[], Iterable[Answer]]) -> Timed:
    started = time.perf_counter()
    answers = list(train_all())
    seconds = time.perf_counter() - started
    return Timed(seconds, tuple(answer.digest for answer in answers))


@contextmanager
def _stored(work: Work) -> Iterator[str]:
    """Yield the path of the pickled work, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        path = Path(folder, "work.pickle")
        path.write_bytes(pickle.dumps(work))
        yield str(path)


def _train_cold(path: str, number: int) -> Answer:
    answer_path = Path(path).with_name(f"{number}.npz")
    command = [sys.executable, "-m", "bench.overhead.cold", path, str(number), str(answer_path)]
    subprocess.run(command, cwd=PROJECT, check=True)
    return read_answer(answer_path)


@contextmanager
def _celery_worker(folder: Path, variable: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "celery", "--app", "bench.overhead.celery_peer", "worker"]
    options = ["--pool", "prefork", "--concurrency", str(SLOTS), "--loglevel", "ERROR"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    with (folder / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            command + options + quiet,
            cwd=PROJECT,
            env={**os.environ, variable: str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield worker
    finally:
        worker.terminate()
        try:
            worker.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def _wait_for(paths: Sequence[Path], worker: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not all(path.exists() for path in paths):
        if worker.poll() is not None or time.monotonic() > deadline:
            log = paths[0].parents[1] / "worker.log"
            raise RuntimeError(f"the Celery worker failed: {log.read_text()[-500:]}")
        time.sleep(POLL_SECONDS)
