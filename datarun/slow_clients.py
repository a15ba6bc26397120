"""Clients that send slowly hold no thread of the web server for long.

gunicorn's threads read a request with no bound in time, so that some dozens of clients, each
sending a byte now and then, would keep everybody else out. Here a head must arrive within some
seconds, and a body at a least rate once its first seconds are over (as Apache's mod_reqtimeout has
it). A head that is late closes the connection; of a body that is late the application is told by a
TimeoutError.

gunicorn waits up to two seconds for the other side before it closes a connection, in the one thread
that accepts and hands out requests: a client that leaves its side open would hold up all others.
Here that is waited for in threads of their own, and not at all where more clients need one.
"""

from __future__ import annotations

import errno
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from gunicorn.http import get_parser
from gunicorn.workers.gthread import ThreadWorker

from datarun.environment import read_body_seconds

HEAD_SECONDS = 15
LEAST_BYTES_A_SECOND = 64 * 1000


class TimedSocket:
    """A socket whose `recv` gives up once what it reads is late.

    Parameters
    ----------
    sock : socket.socket
        Of the connection; blocking, or with a timeout of its own, which then counts.
    head_seconds, body_seconds : float
        How long a head may take; how long a body may, beside what its size is given.
    """

    def __init__(self, sock: socket.socket, *, head_seconds: float, body_seconds: float) -> None:
        self._sock = sock
        self._head_seconds = head_seconds
        self._body_seconds = body_seconds
        self._deadline: float | None = None

    def expect_body(self) -> None:
        """Begin the time of a body; the head has arrived."""
        self._deadline = time.monotonic() + self._body_seconds

    def expect_head(self) -> None:
        """Begin the time of a head with the first byte of it."""
        self._deadline = None

    def recv(self, size: int) -> bytes:
        """Return what has arrived.

        Raises
        ------
        TimeoutError
            When it is late; gunicorn takes the number of the error for a client that went away.
        """
        if self._sock.gettimeout() is not None:
            return self._sock.recv(size)
        if self._deadline is None:
            self._deadline = time.monotonic() + self._head_seconds
        try:
            self._sock.settimeout(max(self._deadline - time.monotonic(), 0.001))
            data = self._sock.recv(size)
        except TimeoutError as error:
            raise TimeoutError(errno.ECONNRESET, "the client sends too slowly") from error
        finally:
            self._sock.settimeout(None)
        self._deadline += len(data) / LEAST_BYTES_A_SECOND
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class TimedWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's worker with threads, which reads by sockets as above, and closes aside."""

    def init_process(self) -> None:
        self._closers = ThreadPoolExecutor(self.cfg.threads, "closing")
        self._free_closers = threading.Semaphore(self.cfg.threads)
        super().init_process()

    def finish_request(self, conn: Any, fs: Any) -> None:
        conn.close = partial(self._close, conn)
        super().finish_request(conn, fs)

    def _close(self, conn: Any, graceful: bool = False) -> None:
        if graceful and self._free_closers.acquire(blocking=False):
            self._closers.submit(self._close_aside, conn)
        else:
            type(conn).close(conn)

    def _close_aside(self, conn: Any) -> None:
        try:
            type(conn).close(conn, graceful=True)
        finally:
            self._free_closers.release()

    def enqueue_req(self, conn: Any) -> None:
        if conn.parser is None and not self.cfg.is_ssl:
            timed = TimedSocket(
                conn.sock,
                head_seconds=min(HEAD_SECONDS, read_body_seconds()),
                body_seconds=read_body_seconds(),
            )
            conn.parser = get_parser(self.cfg, timed, conn.client)
        super().enqueue_req(conn)


def pre_request(worker: Any, request: Any) -> None:
    """Begin the time of a request's body, for gunicorn's hook of that name."""
    if isinstance(request.unreader.sock, TimedSocket):
        request.unreader.sock.expect_body()


def post_request(worker: Any, request: Any, environ: Any, response: Any) -> None:
    """Wait for the next request of a connection, for gunicorn's hook of that name."""
    if isinstance(request.unreader.sock, TimedSocket):
        request.unreader.sock.expect_head()
