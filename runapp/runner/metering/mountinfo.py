"""The paths of /proc/self/mountinfo."""

from __future__ import annotations

import re


def unescape(path: str) -> str:
    """Return a path of mountinfo as it is: proc(5), white space and backslashes are octal there."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)
