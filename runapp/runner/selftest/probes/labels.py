"""Looks for labels that the run was not given, and for the test part's X before its time.

Every label of the self-test is one number, the marker, beside another that says whose it is. The
marker is never made a number here, nor copied: there is one array of its bytes, whose place is
known. What else has these bytes was given to the run.
"""

import ctypes
import gc
import os
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

from .attempts import BAIT, attempt, tell_end

PROMISE = "labels"
GIVEN = "the labels of the fold's own training rows"
KINDS = {
    1.0: GIVEN,
    2.0: "the labels of validation rows",
    3.0: "the labels of the test part",
    4.0: "the X of the test part",
}
_PIECE_BYTES = 2**20
_MOST_BYTES = 2**26
_NEIGHBOUR = struct.Struct("<d")

Hits = Counter[str]


def try_all() -> None:
    marker = _make_marker()
    attempt(PROMISE, "the objects of calling frames", lambda: _judge(_look_at_objects(marker)))
    attempt(PROMISE, "the whole memory", lambda: _judge(_look_at_memory(marker)))
    attempt(PROMISE, "descriptors", lambda: _name(_look_at_descriptors(marker)))
    attempt(PROMISE, "files of the run", lambda: _name(_look_at_files(marker)))
    for path in BAIT["label_files"]:
        attempt(PROMISE, f"reading {path}", partial(_read_labels, path, marker))
    tell_end(PROMISE)


def _read_labels(path: str, marker: bytearray) -> str:
    return _name(_look_at_file(path, marker))


def _make_marker() -> bytearray:
    text = BAIT["marker"]
    marker = bytearray(len(text) // 2)
    for place in range(len(marker)):
        marker[place] = int(text[2 * place : 2 * place + 2], 16)
    return marker


def _judge(hits: Hits) -> str:
    """Name what was found; a look that misses what is there has not been made."""
    if not hits[GIVEN]:
        raise LookupError(f"{GIVEN} were not found either")
    return _name(hits)


def _name(hits: Hits) -> str:
    return ", ".join(sorted(name for name in hits if name != GIVEN))


def _look_at(content: Any, marker: bytearray) -> Hits:
    return Counter(name for _, name in _find(content, len(content), marker))


def _find(content: Any, size: int, marker: bytearray) -> Iterator[tuple[int, str]]:
    """Yield place and meaning of each marker with a neighbour that says whose it is."""
    place = content.find(marker, 0, size)
    while place >= 0:
        after = place + len(marker)
        if after + _NEIGHBOUR.size <= size:
            name = KINDS.get(_NEIGHBOUR.unpack_from(content, after)[0])
            if name is not None:
                yield place, name
        place = content.find(marker, place + 1, size)


def _look_at_memory(marker: bytearray) -> Hits:
    hits: Hits = Counter()
    piece = bytearray(_PIECE_BYTES)
    own = ctypes.addressof(ctypes.c_char.from_buffer(piece))
    descriptor = os.open("/proc/self/mem", os.O_RDONLY)
    try:
        for start, end in _list_regions():
            for address, size in _read_region(descriptor, start, end, piece):
                for place, name in _find(piece, size, marker):
                    if not own <= address + place < own + _PIECE_BYTES:
                        hits[name] += 1
    finally:
        os.close(descriptor)
    return hits


def _list_regions() -> list[tuple[int, int]]:
    """Return what a label could be in: all that is readable but the files of libraries."""
    regions = []
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        for line in file:
            bounds, rights, _, _, inode, *path = line.split(maxsplit=5)
            start, end = (int(bound, 16) for bound in bounds.split("-"))
            is_odd = bool(path) and path[0].startswith(("[v", "/dev/"))
            if rights[0] == "r" and not is_odd and (inode == "0" or rights[1] == "w"):
                regions.append((start, end))
    return regions


def _read_region(
    descriptor: int, start: int, end: int, piece: bytearray
) -> Iterator[tuple[int, int]]:
    address = start
    while address < end:
        wanted = min(end - address, _PIECE_BYTES)
        try:
            size = os.preadv(descriptor, [memoryview(piece)[:wanted]], address)
        except OSError:
            return  # taken away meanwhile, or a device's
        if not size:
            return
        yield address, size
        # A pair may lie across the border of two pieces.
        address += size if address + size >= end else size - 2 * _NEIGHBOUR.size + 1


def _look_at_objects(marker: bytearray) -> Hits:
    hits: Hits = Counter()
    for found in _list_objects():
        try:
            view = memoryview(found)
        except TypeError:
            continue
        if found is not marker and view.contiguous and view.nbytes <= _MOST_BYTES:
            hits += _look_at(view.tobytes(), marker)
    return hits


def _list_objects() -> list[Any]:
    """Return what the frames that called us hold, three steps deep, and what is collected."""
    frame = sys._getframe()
    found: list[Any] = gc.get_objects()
    while frame.f_back is not None:
        frame = frame.f_back
        found += frame.f_locals.values()
    reached = {id(thing): thing for thing in found}
    fresh = list(reached.values())
    for _ in range(3):
        fresh = [thing for thing in gc.get_referents(*fresh) if id(thing) not in reached]
        reached.update((id(thing), thing) for thing in fresh)
    return list(reached.values())


def _look_at_descriptors(marker: bytearray) -> Hits:
    hits: Hits = Counter()
    for descriptor in range(3, 1024):
        try:
            hits += _look_at(os.pread(descriptor, _MOST_BYTES, 0), marker)
        except OSError:
            continue
    return hits


def _look_at_files(marker: bytearray) -> Hits:
    hits: Hits = Counter()
    for folder, _, names in os.walk("."):
        for name in names:
            try:
                hits += _look_at_file(os.path.join(folder, name), marker)
            except OSError:
                continue
    return hits


def _look_at_file(path: str, marker: bytearray) -> Hits:
    with open(path, "rb") as file:
        return _look_at(file.read(_MOST_BYTES), marker)
