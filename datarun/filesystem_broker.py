"""kombu's filesystem transport, safe against half-written files and killed processes.

The stock transport writes a message in place. A process that is killed between create and write
leaves an empty file, and the worker that reads it exits with a JSONDecodeError. The same holds for
the table of an exchange, which the stock transport truncates before it takes the lock.

Nothing is synced to disk: a message is a hint, and after a power loss the database knows what
waits. For the same reason messages that nobody took within a minute are dropped.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, flock
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import filesystem
from kombu.transport.filesystem import exchange_queue_t
from kombu.transport.virtual import BrokerState
from kombu.utils.json import dumps, loads

STALE_SECONDS = 60


class Channel(filesystem.Channel):
    """A channel that writes each file whole, takes each message once and skips broken ones."""

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        for folder in (self.data_folder_in, self.data_folder_out, self.control_folder):
            _make_private_folder(Path(folder))
        self._sweep()

    def get_table(self, exchange: str) -> list[exchange_queue_t]:  # type: ignore[override]
        try:
            return super().get_table(exchange)
        except ValueError:
            return []  # cut by a stock transport; the next declaration of a queue writes it again

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str | None, queue: str) -> None:
        entry = exchange_queue_t(routing_key or "", pattern or "", queue or "")
        with self._changing_table(exchange) as table:
            if entry not in table:
                table.insert(0, entry)

    def _delete(
        self, queue: str, exchange: str, routing_key: str, pattern: str, *args: Any, **kwargs: Any
    ) -> None:
        self._purge(queue)
        entry = exchange_queue_t(routing_key or "", pattern or "", queue or "")
        with self._changing_table(exchange) as table:
            if entry in table:
                table.remove(entry)

    @contextmanager
    def _changing_table(self, exchange: str) -> Iterator[list[exchange_queue_t]]:
        """Yield the table of an exchange under its lock; write it back when it was changed."""
        path: Path = self._exchange_file(exchange)  # type: ignore[attr-defined]
        # The lock is a file of its own: a lock on a file that gets replaced guards nothing.
        with open(f"{path}.lock", "wb") as lock:
            flock(lock, LOCK_EX)
            before = self.get_table(exchange)
            table = list(before)
            yield table
            if table != before or not path.exists():
                _write_whole(path, table)

    def _put(  # type: ignore[override]
        self, queue: str, payload: dict[str, Any], **kwargs: Any
    ) -> None:
        # A service without a worker would gather hints for ever, so publishers sweep as well.
        if time.monotonic() > self._next_sweep:
            self._sweep()
        # The name sorts by time of writing, whatever process wrote it and however often the
        # machine was started since.
        name = f"{time.time_ns():020}_{uuid.uuid4()}.{queue}.msg"
        _write_whole(Path(self.data_folder_out, name), payload)

    def _get(self, queue: str) -> dict[str, Any]:  # type: ignore[override]
        for name in sorted(os.listdir(self.data_folder_in)):
            if name.partition(".")[2] != f"{queue}.msg":
                continue
            payload = _take_message(Path(self.data_folder_in, name))
            if payload is not None:
                return payload
        raise Empty

    def _sweep(self) -> None:
        """Drop stale messages and what killed processes left half done."""
        self._next_sweep = time.monotonic() + STALE_SECONDS
        oldest = time.time() - STALE_SECONDS
        for name in os.listdir(self.data_folder_in):
            path = Path(self.data_folder_in, name)
            try:
                if path.stat().st_mtime < oldest:
                    path.unlink()
            except FileNotFoundError:
                continue  # another process took or swept it


class Transport(filesystem.Transport):
    """The filesystem transport with the channel above."""

    Channel = Channel
    # With it Celery talks to each slot through a pipe of its own, as with other brokers. Without,
    # all slots read from one under a lock, which a slot that is killed while idle never gives back.
    implements = filesystem.Transport.implements.extend(asynchronous=True)

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        # The stock state is one for the process: a queue that was bound once is never bound again,
        # though its table may have been cut or may belong to another folder.
        self.state = BrokerState()

    @property
    def default_connection_params(self) -> dict[str, Any]:
        return {}  # no default host: kombu warns of it each time it is used

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        # No descriptor tells of a new file, so the worker's loop looks for one.
        loop.call_repeatedly(self.polling_interval, self._deliver_next, connection)

    def _deliver_next(self, connection: Any) -> None:
        with suppress(TimeoutError):
            super().drain_events(connection, 0)


def _make_private_folder(folder: Path) -> None:
    # mkdir(parents=True) gives the mode to the last folder only.
    for path in reversed([folder, *folder.parents]):
        if not path.exists():
            path.mkdir(mode=0o700, exist_ok=True)


def _write_whole(path: Path, content: Any) -> None:
    # Neither an exchange's file (.exchange) nor a message (.msg) ends like this one does.
    draft = path.with_name(f"{path.name}.{uuid.uuid4()}.draft")
    try:
        draft.write_bytes(dumps(content).encode())
        os.replace(draft, path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise ChannelError(f"Cannot write {path}: {error}") from error


def _take_message(path: Path) -> dict[str, Any] | None:
    """Return the message of a file that no other process takes, or None."""
    taken = path.with_name(f"{path.name}.taken")
    try:
        # Of several processes one renames; for the others the file is gone.
        os.rename(path, taken)
        content = taken.read_bytes()
        taken.unlink()
    except FileNotFoundError:
        return None
    try:
        payload = loads(content.decode())
    except ValueError:
        return None
    return payload if _is_message(payload) else None


def _is_message(payload: Any) -> bool:
    """Tell whether kombu can make a message of it; anything less would end the worker."""
    return (
        isinstance(payload, dict)
        and isinstance(payload.get("properties"), dict)
        and {"delivery_tag", "delivery_info"} <= payload["properties"].keys()
    )
