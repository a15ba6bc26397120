"""What a submission printed: head and tail within a cap, the rest counted and dropped."""

from __future__ import annotations

from collections import deque

# Everything but tab and line feed that moves a cursor, rings a bell or ends a C string.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), 127) if code not in (9, 10)}


class Output:
    """Collects bytes as they come.

    Parameters
    ----------
    max_bytes : int
        How much is kept: half of it from the start, half from the end.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._head_room = max_bytes - max_bytes // 2
        self._tail_room = max_bytes // 2
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._dropped = 0

    def feed(self, piece: bytes) -> None:
        """Take the next bytes."""
        room = self._head_room - len(self._head)
        self._head += piece[:room]
        rest = piece[room:]
        if not rest:
            return
        self._tail.append(rest)
        self._tail_bytes += len(rest)
        while self._tail_bytes > self._tail_room:
            self._drop_oldest(self._tail_bytes - self._tail_room)

    def read(self) -> str:
        """Return the text: what is no UTF-8, and control characters, shown escaped."""
        head, tail = bytes(self._head), b"".join(self._tail)
        if not self._dropped:
            return _show(head + tail)
        return f"{_show(head)}\n... {self._dropped} bytes left out ...\n{_show(tail)}"

    def _drop_oldest(self, surplus: int) -> None:
        oldest = self._tail.popleft()
        kept = oldest[surplus:]
        if kept:
            self._tail.appendleft(kept)
        self._dropped += len(oldest) - len(kept)
        self._tail_bytes -= len(oldest) - len(kept)


def _show(content: bytes) -> str:
    text = content.decode("utf-8", "backslashreplace").replace("\r\n", "\n")
    return text.translate(_CONTROLS)
