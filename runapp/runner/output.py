"""What a submission printed: head and tail within a cap, the rest counted and dropped."""

from __future__ import annotations

# Everything but tab and line feed that moves a cursor, rings a bell or ends a C string; some
# terminals obey the second range too.
_CONTROLS = {
    code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code not in (9, 10)
}


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
        self._tail = bytearray()
        self._dropped = 0

    def feed(self, piece: bytes) -> None:
        """Take the next bytes."""
        room = self._head_room - len(self._head)
        self._head += piece[:room]
        self._tail += piece[room:]
        # Twice the room before it is cut: many small pieces then cost no more than one large.
        if len(self._tail) > 2 * self._tail_room:
            self._cut_tail()

    def read(self) -> str:
        """Return the text: what is no UTF-8, and control characters, shown escaped."""
        self._cut_tail()
        if not self._dropped:
            return _show(self._head + self._tail)
        head, tail = _end_whole(self._head), _begin_whole(self._tail)
        dropped = self._dropped + len(self._head) - len(head) + len(self._tail) - len(tail)
        return f"{_show(head)}\n... {dropped} bytes left out ...\n{_show(tail)}"

    def _cut_tail(self) -> None:
        surplus = max(len(self._tail) - self._tail_room, 0)
        del self._tail[:surplus]
        self._dropped += surplus


def _end_whole(head: bytearray) -> bytearray:
    """Leave out a character of UTF-8 that the cut has left without its last bytes."""
    for n_bytes in range(1, min(len(head), 3) + 1):
        byte = head[-n_bytes]
        if byte >= 0xC0:
            is_cut = n_bytes < 2 + (byte >= 0xE0) + (byte >= 0xF0)
            return head[:-n_bytes] if is_cut else head
        if byte < 0x80:
            break
    return head


def _begin_whole(tail: bytearray) -> bytearray:
    """Leave out the rest of a character of UTF-8 that the cut has left without its first byte."""
    n_rest = 0
    while n_rest < min(len(tail), 3) and 0x80 <= tail[n_rest] < 0xC0:
        n_rest += 1
    return tail[n_rest:]


def _show(content: bytearray) -> str:
    text = content.decode("utf-8", "backslashreplace").replace("\r\n", "\n")
    return show_controls(text)


def show_controls(text: str) -> str:
    """Return the text with control characters, tab and line feed apart, shown as escapes."""
    return text.translate(_CONTROLS)
