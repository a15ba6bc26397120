"""What is kept of a submission's output."""

from __future__ import annotations

import re
import time
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runapp.runner.output import Output

NOTICE = re.compile(r"\n\.\.\. (\d+) bytes left out \.\.\.\n")


def collect(*pieces: bytes, max_bytes: int) -> str:
    output = Output(max_bytes=max_bytes)
    for piece in pieces:
        output.feed(piece)
    return output.read()


def test_read_within_the_cap_is_everything() -> None:
    assert collect(b"one\n", b"two\n", max_bytes=8) == "one\ntwo\n"


def test_read_beyond_the_cap_is_head_and_tail_and_a_count() -> None:
    assert collect(b"0123456789", max_bytes=4) == "01\n... 6 bytes left out ...\n89"


def test_read_of_an_odd_cap_gives_the_head_one_more() -> None:
    assert collect(b"0123456789", max_bytes=3) == "01\n... 7 bytes left out ...\n9"


def test_read_without_any_room_counts() -> None:
    assert collect(b"0123456789", max_bytes=0) == "\n... 10 bytes left out ...\n"


def test_read_twice_is_the_same_and_feeding_goes_on() -> None:
    output = Output(max_bytes=4)
    output.feed(b"abcdef")

    assert output.read() == output.read() == "ab\n... 2 bytes left out ...\nef"

    output.feed(b"gh")

    assert output.read() == "ab\n... 4 bytes left out ...\ngh"


@given(
    text=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=300),
    cuts=st.lists(st.integers(0, 300)),
    max_bytes=st.integers(0, 200),
)
def test_read_is_a_prefix_and_a_suffix_within_the_cap(
    text: str, cuts: list[int], max_bytes: int
) -> None:
    content = text.encode()
    bounds = sorted({0, len(content), *(min(cut, len(content)) for cut in cuts)})

    shown = collect(
        *(content[start:end] for start, end in pairwise(bounds)),
        max_bytes=max_bytes,
    )

    if len(content) <= max_bytes:
        assert shown == text
        return
    head, dropped, tail = NOTICE.split(shown)
    assert text.startswith(head)
    assert text.endswith(tail)
    assert len(head) + len(tail) == max_bytes
    assert len(head) + int(dropped) + len(tail) == len(text)


@given(content=st.binary(max_size=300), max_bytes=st.integers(0, 200))
def test_read_of_any_bytes_is_text_that_a_database_takes(content: bytes, max_bytes: int) -> None:
    shown = collect(content, max_bytes=max_bytes)

    shown.encode("utf-8")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown)
    # At worst each byte kept is shown as four characters.
    assert len(NOTICE.sub("", shown)) <= 4 * max(max_bytes, 0)


@given(text=st.text("aä€😀", max_size=60), max_bytes=st.integers(0, 60))
def test_read_leaves_out_characters_that_the_cap_cuts(text: str, max_bytes: int) -> None:
    content = text.encode()

    shown = collect(content, max_bytes=max_bytes)

    head, _, rest = shown.partition("\n... ")
    tail = rest.partition(" ...\n")[2]
    assert text.startswith(head)
    assert text.endswith(tail)
    if rest:
        dropped = int(rest.partition(" ")[0])
        assert len(head.encode()) + dropped + len(tail.encode()) == len(content)
        assert max_bytes - 6 <= len((head + tail).encode()) <= max_bytes


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b"\xff\xfe", "\\xff\\xfe"),
        (b"a\x00b", "a\\x00b"),
        (b"\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x9b31m".encode(), "\\x9b31m"),
        (b"10 %\r20 %\r", "10 %\\x0d20 %\\x0d"),
        (b"line\r\nline", "line\nline"),
        (b"tab\tand\nline", "tab\tand\nline"),
        (b"\x7f\x07", "\\x7f\\x07"),
        ("grün €".encode(), "grün €"),
        ("€".encode()[:2], "\\xe2\\x82"),
    ],
)
def test_read_shows_what_is_not_text_escaped(content: bytes, shown: str) -> None:
    assert collect(content, max_bytes=100) == shown


def test_read_joins_a_character_that_came_in_two_pieces() -> None:
    first, second = "ü".encode()[:1], "ü".encode()[1:]

    assert collect(first, second, max_bytes=10) == "ü"


def test_feed_of_a_million_single_bytes_is_fast_and_small() -> None:
    output = Output(max_bytes=2**18)
    tracemalloc.start()
    try:
        for _ in range(100_000):
            output.feed(b"x")
        _, traced_peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    started = time.process_time()
    for _ in range(900_000):
        output.feed(b"x")
    seconds = time.process_time() - started

    assert traced_peak < 2**20
    assert seconds < 5
    assert "737856 bytes left out" in output.read()
