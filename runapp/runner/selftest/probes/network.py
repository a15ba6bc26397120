"""Tries to reach anything outside by a socket."""

import contextlib
import errno
import os
import socket
from functools import partial

from .attempts import BAIT, attempt, tell_end

PROMISE = "network"
_PATIENCE_SECONDS = 0.05
# RFC 5737 keeps it for documentation: nobody has it, and whoever may send, may send to it.
_PUBLIC = "192.0.2.1"
# A question for the address of localhost, RFC 1035.
_QUERY = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x09localhost\0\0\x01\0\x01"


def try_all() -> None:
    for family, address in BAIT["tcp"]:
        name = f"TCP to the loopback address {address[0]}"
        attempt(PROMISE, name, partial(_connect, family, tuple(address)))
    attempt(PROMISE, "UDP to the loopback address", partial(_send_to, tuple(BAIT["udp"])))
    attempt(PROMISE, "TCP to a public address", _start_to_connect)
    attempt(PROMISE, "UDP to a public address", partial(_send_to, (_PUBLIC, 9)))
    for server in BAIT["name_servers"]:
        attempt(PROMISE, f"asking the name server {server}", partial(_send_to, (server, 53)))
    attempt(PROMISE, "a socket to the hypervisor", _make_vsock)
    name = b"\0" + BAIT["abstract_socket"].encode()
    attempt(PROMISE, "an abstract socket of the host", partial(_connect, socket.AF_UNIX, name))
    attempt(PROMISE, "a socket file of the host", _connect_by_path)
    tell_end(PROMISE)


def _connect(family: int, address: "tuple[str, int] | bytes | str") -> str:
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(1.0)
        connection.connect(address)
        return f"connected to {address!r}"


def _connect_by_path() -> str:
    return _connect(socket.AF_UNIX, BAIT["socket_file"])


def _send_to(address: "tuple[str, int]") -> str:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as connection:
        connection.settimeout(_PATIENCE_SECONDS)
        connection.connect(address)
        connection.send(_QUERY)
        # Where nobody listens on a loopback of its own, the refusal comes at once.
        with contextlib.suppress(TimeoutError):
            connection.recv(1)
        return f"a datagram left for {address[0]}"


def _start_to_connect() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        number = connection.connect_ex((_PUBLIC, 80))
        if number not in (0, errno.EINPROGRESS):
            raise OSError(number, os.strerror(number))
        return f"a connection to {_PUBLIC} was begun"


def _make_vsock() -> str:
    # No connection is tried: what would answer is not ours.
    with socket.socket(getattr(socket, "AF_VSOCK", 40), socket.SOCK_STREAM):
        return "a socket of AF_VSOCK could be made"
