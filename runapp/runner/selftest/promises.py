"""What a worker promises of every run, and what it found when it tried to break it.

Nothing here needs more than the standard library, so that settings and reads may use it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Self

# The level of one that could not be made.
_UNKNOWN = "unknown"


class Promise(StrEnum):
    """What participant code cannot do, or do unnoticed."""

    NETWORK = "network"  # connect to anything, ask for a name, reach a socket of the host
    FILES = "files"  # read or write what is not its own, processes' environments included
    LABELS = "labels"  # find labels it is not given, or the test part's X before its time
    NEIGHBOURS = "neighbours"  # leave anything for the next run
    PROCESSES = "processes"  # have more processes than its limit, or outlive the run in one
    MEMORY = "memory"  # use more memory than its limit, in whichever of its processes
    CPU = "cpu"  # use more CPU than its limit, spread over whichever processes
    SCRATCH = "scratch"  # write more than its limit
    KERNEL = "kernel"  # use what the kernel offers for building worlds and watching others


# What every worker must keep unless its operator says otherwise.
DEFAULT_REQUIRED = frozenset({Promise.NETWORK, Promise.FILES, Promise.LABELS})


def name_promises(promises: Iterable[Promise]) -> str:
    """Return the promises' names in the usual order, as text for people."""
    named = frozenset(promises)
    return ", ".join(promise for promise in Promise if promise in named)


@dataclass(frozen=True)
class Finding:
    """What came of trying one promise.

    Parameters
    ----------
    mechanism : str
        What keeps the promise, as the supervisor names it.
    detail : str
        What was tried, or what broke the promise.
    """

    promise: Promise
    is_kept: bool
    mechanism: str
    detail: str


@dataclass(frozen=True)
class SelfTest:
    """What a worker found out about itself.

    Parameters
    ----------
    findings : tuple of Finding
        One for each promise.
    level : str
        What separates a run from its host, as the supervisor names it.
    measured_by : str
        How the usage of runs is measured.
    versions : mapping of str to str
        Of what decides on predictions and promises: Python, libraries, datarun, kernel.
    reasons : tuple of str
        Why no better level is offered.
    """

    findings: tuple[Finding, ...]
    level: str
    measured_by: str
    versions: Mapping[str, str] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()

    @property
    def kept(self) -> frozenset[Promise]:
        return frozenset(finding.promise for finding in self.findings if finding.is_kept)

    def list_broken(self, required: Iterable[Promise]) -> list[Finding]:
        """Return the findings of required promises that are not kept."""
        missing = frozenset(required) - self.kept
        return [finding for finding in self.findings if finding.promise in missing]

    @classmethod
    def fail(cls, reason: str) -> Self:
        """Return the self-test that could not be made: nothing is kept."""
        findings = (Finding(promise, False, "none", reason) for promise in Promise)
        return cls(tuple(findings), level=_UNKNOWN, measured_by=_UNKNOWN)

    @property
    def was_made(self) -> bool:
        """Whether anything was tried."""
        return self.level != _UNKNOWN

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold; `from_json` makes the same self-test of it."""
        return {
            "findings": [asdict(finding) for finding in self.findings],
            "level": self.level,
            "measured_by": self.measured_by,
            "versions": dict(self.versions),
            "reasons": list(self.reasons),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Return the self-test that `to_json` told of."""
        return cls(
            findings=tuple(
                Finding(**{**finding, "promise": Promise(finding["promise"])})
                for finding in content["findings"]
            ),
            level=content["level"],
            measured_by=content["measured_by"],
            versions=dict(content["versions"]),
            reasons=tuple(content["reasons"]),
        )
