"""Ports for the servers that tests start: each process of the tests has a range of its own."""

from __future__ import annotations

import os
import random
import socket
from itertools import cycle

# Below those that the kernel gives to clients: /proc/sys/net/ipv4/ip_local_port_range.
_FIRST = 20_000
_PORTS_PER_PROCESS = 750
_PROCESSES = 16


def _list_own() -> list[int]:
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _PROCESSES
    first = _FIRST + number * _PORTS_PER_PROCESS
    own = list(range(first, first + _PORTS_PER_PROCESS))
    # Another run of the tests on this machine is unlikely to be at the same place.
    start = random.randrange(len(own))
    return own[start:] + own[:start]


_own = cycle(_list_own())


def find_free_port(host: str = "127.0.0.1") -> int:
    """Return a port at which nobody listens, another one at each call."""
    for _ in range(_PORTS_PER_PROCESS):
        port = next(_own)
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
        return port
    raise AssertionError(f"all ports of this process are taken, the last was {port}")
