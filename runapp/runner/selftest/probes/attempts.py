"""Tells what was tried and what came of it: one line of JSON for each attempt."""

import errno
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

REFUSED, DONE, MADE, FAILED = "refused", "done", "made", "failed"

# What the self-test has laid out for this run.
BAIT: dict[str, Any] = json.loads(
    Path(__file__).with_name("bait.json").read_text() if __package__ == "submission" else "{}"
)

# The attempt could not be made: this says nothing of what holds it back.
_OWN_TROUBLE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINVAL, errno.EFAULT}

_told: Counter[str] = Counter()


def attempt(promise: str, name: str, act: Callable[[], str]) -> None:
    """Try what must not work; `act` tells what it has reached, or raises OSError when refused."""
    try:
        reached = act()
    except OSError as error:
        result = FAILED if error.errno in _OWN_TROUBLE else REFUSED
        tell(promise, name, result, error.strerror or str(error))
    except BaseException as error:
        tell(promise, name, FAILED, f"{type(error).__name__}: {error}")
    else:
        tell(promise, name, DONE if reached else REFUSED, reached or "nothing found")


def prepare(promise: str, name: str, act: Callable[[], object]) -> None:
    """Do what may work or not, for another attempt to build on."""
    try:
        act()
    except OSError as error:
        tell(promise, name, REFUSED, error.strerror or str(error))
    except BaseException as error:
        tell(promise, name, FAILED, f"{type(error).__name__}: {error}")
    else:
        tell(promise, name, MADE, "")


def tell(promise: str, name: str, result: str, detail: str) -> None:
    _told[promise] += 1
    _write({"promise": promise, "name": name, "result": result, "detail": detail[:300]})


def tell_end(promise: str) -> None:
    """Say that all attempts on a promise have been told."""
    _write({"promise": promise, "n_attempts": _told[promise]})


def _write(line: dict[str, object]) -> None:
    # One write a line, and none left in a buffer when the process is killed.
    os.write(1, (json.dumps(line) + "\n").encode())
