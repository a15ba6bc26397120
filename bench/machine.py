"""What is told of the machine beside every figure."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path


def describe_machine(
    arguments: Sequence[str], *, module: str, packages: Sequence[str]
) -> tuple[str, ...]:
    """Return lines that say where, when and how the figures of a module are made."""
    load = ", ".join(f"{one:.2f}" for one in os.getloadavg())
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"{os.cpu_count()} cores ({_read_processor()}), load {load} at the start",
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, {versions}",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, "
        f"`{shlex.join(['python', '-m', module, *arguments])}`",
    )


def _read_processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
