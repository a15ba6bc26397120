"""Hides where the server keeps things from text that a participant reads."""

from __future__ import annotations

import sysconfig
from pathlib import Path

_PROJECT = str(Path(__file__).resolve().parents[2])


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
    ):
        text = text.replace(path, name)
    return text
