"""Lets a sealed run try things, and tells what came of each."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from functools import cache

import pytest

from runapp.runner.host import Host, survey_host
from runapp.runner.sandbox.levels import Level
from tests.unit.runner_folds import Iris, write_classifier

LEVELS = [Level.ROOT, Level.USER, Level.LANDLOCK]
DONE = "done"

_TOP = """
import ctypes, errno, fcntl, json, mmap, resource, socket, subprocess
libc = ctypes.CDLL(None, use_errno=True)

def call(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    if result == -1:
        raise OSError(ctypes.get_errno(), "it was refused")
    return result

def find_descriptor(name):
    for number in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{number}").endswith("/" + name):
                return int(number)
        except OSError:
            pass

def attempt(code):
    try:
        eval(code, globals())
    except OSError as error:
        return errno.errorcode.get(error.errno, repr(error))
    return "done"
"""
_TELL = "print(json.dumps([attempt(code) for code in {codes!r}]))"


@cache
def find_host(level: Level) -> Host:
    return survey_host(best=level)


def need_level(level: Level) -> Host:
    """Return a host of this level; skip the test, with the reasons, where there is none."""
    host = find_host(level)
    if host.seal.level is not level:
        pytest.skip(f"no {level.name} here: {'; '.join(host.reasons)}")
    return host


def try_all(
    iris: Iris,
    attempts: Mapping[str, str],
    *,
    top: str = "",
    at_test: bool = False,
    **limits: float,
) -> dict[str, str]:
    """Evaluate expressions in a run; return `DONE` or the name of the error for each.

    `at_test` does it when the test part is there, else it is done while training.
    """
    tell = _TELL.format(codes=list(attempts.values()))
    stages = {"predict": f"if len(X) == 45: {tell}"} if at_test else {"fit": tell}
    ran = iris.run(write_classifier(top=_TOP + top, **stages), **limits)
    assert ran.outcome == "tested", ran.result.sentence
    answers: list[str] = json.loads(ran.result.output)
    return dict(zip(attempts, answers, strict=True))


def find_done(answers: Mapping[str, str]) -> list[str]:
    return [name for name, answer in answers.items() if answer == DONE]


def is_refusal(answer: str) -> bool:
    """Tell whether the kernel refused the call itself, whatever its arguments were."""
    return answer in {errno.errorcode[errno.EPERM], errno.errorcode[errno.ENOSYS]}
