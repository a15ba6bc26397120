"""Tries a seal without a run in it: the steps of a keeper and its child, and then the end."""

from __future__ import annotations

import os
import sys
import traceback
from typing import NoReturn

import numpy as np

from runapp.runner.contract import Limits
from runapp.runner.sandbox import enter as sandbox
from runapp.runner.sandbox import libc
from runapp.runner.sandbox.levels import Seal
from runapp.runner.sandbox.mounts import WORK

FAILED_STATUS = 72
_LIMITS = Limits(
    wall_seconds=60, cpu_seconds=60, memory_mb=1024, processes=8, scratch_mb=1, output_kb=1
)


def main(arguments: list[str]) -> NoReturn:
    """Leave with status 0 when every step could be taken; arguments as the keeper's."""
    _, seal_text, _ = arguments
    seal = Seal.from_json(seal_text)
    if seal.level.has_namespaces:
        libc.unshare(libc.CLONE_NEWPID)
    pid = os.fork()
    if pid == 0:
        _try(seal)
    _, status = os.waitpid(pid, 0)
    os._exit(os.waitstatus_to_exitcode(status) and FAILED_STATUS)


def _try(seal: Seal) -> NoReturn:
    try:
        sandbox.prepare(seal=seal, groups=())
        sandbox.become_nobody(seal=seal, limits=_LIMITS)
        folder = WORK if seal.level.has_namespaces else "/"
        sandbox.enter(seal=seal, limits=_LIMITS, memory_bytes=2**30, scratch=folder)
        for path in (os.__file__, np.__file__):  # of the interpreter, and of the environment
            with open(path, "rb"):
                pass
        os._exit(0)
    except BaseException as error:
        traceback.print_exc()
        print(f"seal: {error}", file=sys.stderr)
        sys.stderr.flush()
    os._exit(FAILED_STATUS)
