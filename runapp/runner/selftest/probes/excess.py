"""Goes over each of the limits."""

import mmap
import os
import signal
import time
from pathlib import Path

from .attempts import BAIT, attempt, tell_end

# How long what has gone over a limit waits for its end; then it has got away with it.
PATIENCE_SECONDS = 2.0
_PIECE_BYTES = 2**20


def write_too_much() -> None:
    attempt("scratch", "writing twice the limit", _write_too_much)
    tell_end("scratch")


def _write_too_much() -> str:
    pieces = [Path(f"piece-{number}") for number in range(2 * BAIT["scratch_mb"])]
    try:
        # Many small files: a limit of each file's size would not count.
        for path in pieces:
            path.write_bytes(bytes(_PIECE_BYTES))
    finally:
        for path in pieces:
            path.unlink(missing_ok=True)
    return f"{len(pieces)} MB were written"


def take_memory() -> None:
    held = [bytearray(_PIECE_BYTES) for _ in range(2 * BAIT["memory_mb"])]
    time.sleep(PATIENCE_SECONDS)
    held.clear()


def take_memory_in_a_child() -> None:
    try:
        child = os.fork()
    except OSError:
        take_memory()  # where there are no children, nothing is to be gained by them
        return
    if child == 0:
        # Shared pages are not what the limit of a single process's data counts.
        memory = mmap.mmap(-1, 2 * BAIT["memory_mb"] * _PIECE_BYTES)
        piece = bytes(_PIECE_BYTES)
        while memory.tell() < len(memory):
            memory.write(piece)
        time.sleep(PATIENCE_SECONDS)
        os._exit(0)
    os.waitpid(child, 0)


def burn() -> None:
    for _ in range(3):
        try:
            if os.fork() == 0:
                break
        except OSError:
            break
    deadline = time.monotonic() + PATIENCE_SECONDS + 4 * BAIT["cpu_seconds"]
    while time.monotonic() < deadline:
        pass
    os._exit(0)


def fork_too_much() -> None:
    attempt("processes", "forking beyond the limit", _fork_too_much)
    tell_end("processes")


def _fork_too_much() -> str:
    for number in range(3 * BAIT["processes"]):
        try:
            child = os.fork()
        except OSError:
            if number < BAIT["processes"]:
                raise
            return f"{number} processes were started, where {BAIT['processes']} are allowed"
        if child == 0:
            signal.alarm(int(PATIENCE_SECONDS) + 1)
            signal.pause()
            os._exit(0)
    time.sleep(PATIENCE_SECONDS)
    return f"{number + 1} processes were started, where {BAIT['processes']} are allowed"
