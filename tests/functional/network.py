"""Hosts of a network of the test's own: network namespaces on a bridge that leads nowhere else."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.effort import miss

NAMESPACES = Path("/run/netns")


@dataclass(frozen=True)
class Host:
    """A namespace with one link, whose other end is a port of the bridge."""

    namespace: str
    port: str

    @property
    def prefix(self) -> Sequence[str]:
        """What makes a command run there: `ip netns exec` would hide the control groups."""
        return ["nsenter", f"--net={NAMESPACES / self.namespace}"]

    def cut(self) -> None:
        """Take the link down: packets vanish, and nobody refuses anything."""
        _ip("link", "set", self.port, "down")

    def mend(self) -> None:
        """Bring the link up again."""
        _ip("link", "set", self.port, "up")


@dataclass(frozen=True)
class Network:
    """The bridge's address, where servers can listen, and the hosts that reach it."""

    address: str
    hosts: Sequence[Host]


@contextmanager
def private_network(*, n_hosts: int) -> Iterator[Network]:
    """Make a bridge and hosts; at the end they are gone, with whatever still runs there."""
    _check_may_make_namespaces()
    token = secrets.token_hex(3)
    # A part of 10.0.0.0/8 that no interface of this machine is in.
    net = _find_free_net()
    with ExitStack() as stack:
        bridge = f"dr{token}"
        _ip("link", "add", bridge, "type", "bridge")
        stack.callback(_ip, "link", "delete", bridge)
        _ip("address", "add", f"{net}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        hosts = [
            _make_host(stack, bridge=bridge, token=token, number=number, address=f"{net}.{number}")
            for number in range(2, 2 + n_hosts)
        ]
        yield Network(address=f"{net}.1", hosts=hosts)


def _make_host(stack: ExitStack, *, bridge: str, token: str, number: int, address: str) -> Host:
    host = Host(namespace=f"datarun-{token}-{number}", port=f"dr{token}-{number}")
    _ip("netns", "add", host.namespace)
    stack.callback(_remove, host.namespace)
    _ip("link", "add", host.port, "type", "veth", "peer", "eth0", "netns", host.namespace)
    _ip("link", "set", host.port, "master", bridge, "up")
    inside = ("-netns", host.namespace)
    _ip(*inside, "address", "add", f"{address}/24", "dev", "eth0")
    _ip(*inside, "link", "set", "eth0", "up")
    _ip(*inside, "link", "set", "lo", "up")
    return host


def _remove(namespace: str) -> None:
    place = (NAMESPACES / namespace).stat().st_ino
    for process in psutil.process_iter():
        try:
            if os.stat(f"/proc/{process.pid}/ns/net").st_ino == place:
                process.kill()
        except (OSError, psutil.NoSuchProcess):
            continue  # it just ended
    # Its end of the link goes with it, and the other end with that.
    _ip("netns", "delete", namespace)


def _find_free_net() -> str:
    taken = {
        address.address.rpartition(".")[0]
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
    }
    return next(net for net in _list_nets() if net not in taken)


def _list_nets() -> Iterator[str]:
    while True:
        yield f"10.{secrets.randbelow(100) + 100}.{secrets.randbelow(256)}"


def _check_may_make_namespaces() -> None:
    if os.geteuid() != 0:
        miss("network namespaces need root")
    for program in ("ip", "nsenter"):
        if shutil.which(program) is None:
            miss(f"network namespaces need the program {program}")
    name = f"datarun-try-{secrets.token_hex(3)}"
    try:
        _ip("netns", "add", name)
        _ip("netns", "delete", name)
    except AssertionError as error:
        miss(f"network namespaces cannot be made here: {error}")


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr.strip()}"
