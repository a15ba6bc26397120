"""A TCP link between a service and a server, which a test cuts and mends."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from tests.ports import find_free_port

HOST = "127.0.0.1"


class Link:
    """Passes bytes on to a port of this machine; while it is cut, connections are refused."""

    def __init__(self, target_port: int) -> None:
        self._target = (HOST, target_port)
        self._ends: list[socket.socket] = []
        self._server: socket.socket | None = None
        self.port = find_free_port()

    def __enter__(self) -> Self:
        self.mend()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cut()

    def mend(self) -> None:
        server = socket.create_server((HOST, self.port))
        self._server = server
        threading.Thread(target=self._accept, args=(server,), daemon=True).start()

    def cut(self) -> None:
        """End all connections, and take no other."""
        server, self._server = self._server, None
        if server is not None:
            _end(server)
        for end in self._ends:
            _end(end)
        self._ends.clear()

    def _accept(self, server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = server.accept()
                far = socket.create_connection(self._target)
                self._ends += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=_pass_on, args=pair, daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(65536):
            sink.sendall(content)
    _end(sink)


def _end(end: socket.socket) -> None:
    # Closing alone would not wake a thread that waits for it.
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
