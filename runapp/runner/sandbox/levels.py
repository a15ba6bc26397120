"""How much a host lets a worker seal its runs, from best to worst."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Self


class Level(StrEnum):
    """What separates a run from its host."""

    ROOT = "namespaces and an own user"  # the worker is root
    USER = "namespaces inside a user namespace"  # it is not
    LANDLOCK = "Landlock and seccomp"  # no namespaces to be had
    PROCESS = "a separate process"  # development only

    @property
    def has_namespaces(self) -> bool:
        return self in (Level.ROOT, Level.USER)


@dataclass(frozen=True)
class Seal:
    """How a keeper and its children are to be sealed.

    Parameters
    ----------
    level : Level
        What the keeper's launcher sets up.
    uid : int or None
        The user that a child becomes; None where the worker may not give it one of its own.
    landlock_abi : int
        The version of Landlock that the children restrict themselves with; 0 is "without".
    has_seccomp : bool
        Whether the children filter their system calls.
    counts_memory, counts_processes : bool
        Whether a cgroup does: it knows of anonymous files that no process has mapped, and it
        tells how often it has refused a process.
    readable : tuple of str
        What may be read where there is no root of its own.
    """

    level: Level
    uid: int | None = None
    landlock_abi: int = 0
    has_seccomp: bool = False
    counts_memory: bool = False
    counts_processes: bool = False
    readable: tuple[str, ...] = ()

    @property
    def may_overlap(self) -> bool:
        """Whether a run's child may be made while another runs, and none is taken for the other.

        Without a group's account, what a run uses is told from the processes below the keeper.
        """
        return self.level.has_namespaces and self.counts_memory

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        fields = json.loads(text)
        level, readable = Level(fields["level"]), tuple(fields["readable"])
        return cls(**{**fields, "level": level, "readable": readable})


def is_linux() -> bool:
    return os.uname().sysname == "Linux"
