"""Hides where the server keeps things from text that a participant reads."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

from runapp.runner.sandbox.mounts import BASE, ENV, WORK

_PROJECT = str(Path(__file__).resolve().parents[2])
_VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
# What a sealed run sees: the same on every host, and no secret, but long.
_INSIDE = (
    (f"{WORK}/", ""),
    (f"{ENV}/lib/{_VERSION}/site-packages", "site-packages"),
    (f"{BASE}/lib/{_VERSION}", "python"),
)


def hide_paths(text: str, *, scratch: str) -> str:
    """Return the text with the server's paths cut down to what means something elsewhere.

    Parameters
    ----------
    text : str
        What a submission printed, or what is told of its failure.
    scratch : str
        The working directory of the run; paths below it become relative to it.
    """
    for path, name in (
        (f"{scratch}/", ""),
        (scratch, "."),
        # The environment may lie below the project, so it goes first.
        (sysconfig.get_path("purelib"), "site-packages"),
        (sysconfig.get_path("stdlib"), "python"),
        (_PROJECT, "datarun"),
        *_INSIDE,
    ):
        text = text.replace(path, name)
    return text
