"""A submission that tells when its first line ran and how far it is kept apart from its host."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Sequence
from typing import Any

NAMESPACES = ("pid", "net", "mnt", "ipc", "user", "uts", "cgroup")


def look_around() -> dict[str, Any]:
    """Return what a process can tell of its own walls; what it cannot read is left out."""
    seen: dict[str, Any] = {"uid": os.getuid()}
    for name in NAMESPACES:
        try:
            seen[name] = os.readlink(f"/proc/self/ns/{name}")
        except OSError:
            continue
    try:
        with open("/proc/self/status") as file:
            status = dict(line.split(":", 1) for line in file)
        seen["seccomp"] = int(status["Seccomp"])
        seen["no_new_privs"] = int(status["NoNewPrivs"])
        seen["capabilities"] = int(status["CapEff"], 16)
    except (OSError, KeyError, ValueError):
        pass
    return seen


def write_probe() -> str:
    """Return the code of a classifier that prints the moment, then what it sees, as JSON."""
    return f"""\
import time; first_line_at = time.time()
import json
import os
from typing import Any

import numpy as np

NAMESPACES = {NAMESPACES}


{inspect.getsource(look_around)}

print(json.dumps({{"first_line_at": first_line_at, **look_around()}}))


class Classifier:
    def fit(self, X, y):
        self.n_classes = len(set(y))

    def predict_proba(self, X):
        return np.full((len(X), self.n_classes), 1 / self.n_classes)
"""


def read_probe(printed: str) -> dict[str, Any]:
    """Return what a probe printed."""
    seen: dict[str, Any] = json.loads(printed.strip().splitlines()[-1])
    return seen


def describe_isolation(inside: dict[str, Any], outside: dict[str, Any]) -> str:
    """Tell in words what keeps a fold apart, as seen from inside and from outside.

    Parameters
    ----------
    inside, outside : dict
        What `look_around` returned in a fold and in a process of the bench.

    Returns
    -------
    str
        Only what was seen to differ; what leaves no trace there (Landlock, cgroups) is not named.
    """
    walls = ["a process per fold"]
    own = [name for name in NAMESPACES if name in inside and inside[name] != outside.get(name)]
    if own:
        walls.append(f"own namespaces ({', '.join(own)})")
    if inside["uid"] != outside["uid"]:
        walls.append("another user")
    if outside.get("capabilities") and inside.get("capabilities") == 0:
        walls.append("no capabilities")
    if inside.get("seccomp", 0) > outside.get("seccomp", 0):
        walls.append("seccomp")
    return ", ".join(walls)


def describe_all(seen: Sequence[dict[str, Any]]) -> str:
    """Tell what keeps folds apart; all kinds, when not all are kept apart alike."""
    outside = look_around()
    return "; or: ".join(sorted({describe_isolation(inside, outside) for inside in seen}))
