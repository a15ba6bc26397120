"""Where things lie on the host and, other than there, inside a sealed run.

Inside, every path is the same on every host: the Python environment lies in `/env`, its base
interpreter in `/python` (or in `/usr`, which is shown as it is), and a run works in `/fold`. So a
run works wherever the project and its environment lie, and its own paths do not tell where that is.
"""

from __future__ import annotations

import json
import os
import sys
import sysconfig
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

ENV = "/env"
BASE = "/python"
RUNNER = "/datarun/runapp/runner"
FOLD = "/fold"
WORK = f"{FOLD}/work"
TMP = f"{FOLD}/tmp"  # noqa: S108 (inside, and of the run alone)
SHM = f"{FOLD}/shm"
# The devices that a run may use, below `/dev`.
DEVICES = ("null", "zero", "full", "random", "urandom")

_PROJECT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Places:
    """What a launcher needs to know of the host.

    Parameters
    ----------
    runner : str
        The folder of the package `runapp.runner`.
    base_prefix, base_executable : str
        The interpreter that the environment was made of.
    site_packages : str or None
        The environment's packages; None when there is no virtual environment.
    has_system_site : bool
        Whether the environment sees the base interpreter's packages too.
    hidden : tuple of str
        Folders that no run may see although they may lie below one that is shown.
    inputs : str or None
        The folder below which the inputs of runs lie, opened read-only for the worker.
    """

    runner: str
    base_prefix: str
    base_executable: str
    site_packages: str | None
    has_system_site: bool
    hidden: tuple[str, ...]
    inputs: str | None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        fields = json.loads(text)
        return cls(**{**fields, "hidden": tuple(fields["hidden"])})

    @property
    def is_base_shown(self) -> bool:
        """Whether the base interpreter lies where the system's own folders are."""
        return is_below(self.base_prefix, "/usr")

    @property
    def libraries(self) -> str:
        """The folder of the base interpreter's shared library inside."""
        return self.locate_base(os.path.join(self.base_prefix, "lib"))

    def locate_base(self, path: str) -> str:
        """Return where a path of the base interpreter is inside."""
        if self.is_base_shown:
            return path
        return os.path.join(BASE, os.path.relpath(path, self.base_prefix))

    @property
    def executable(self) -> str:
        """The interpreter inside."""
        if self.site_packages is not None:
            return f"{ENV}/bin/python"
        return self.locate_base(self.base_executable)


def find_places(*, hidden: tuple[Path, ...], inputs: Path | None) -> Places:
    """Describe the interpreter that runs this.

    Parameters
    ----------
    hidden : tuple of Path
        More folders than the project's own that no run may see.
    inputs : Path or None
        As in `Places`.
    """
    is_virtual = sys.prefix != sys.base_prefix
    base_prefix = os.path.realpath(sys.base_prefix)
    executable = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    return Places(
        runner=str(Path(__file__).resolve().parents[1]),
        base_prefix=base_prefix,
        base_executable=executable,
        site_packages=os.path.realpath(sysconfig.get_path("purelib")) if is_virtual else None,
        has_system_site=is_virtual and _sees_system_site(),
        hidden=tuple(str(folder.resolve()) for folder in (_PROJECT, *hidden)),
        inputs=str(inputs.resolve()) if inputs is not None else None,
    )


def is_below(path: str, folder: str) -> bool:
    """Tell whether a path is a folder or lies in it."""
    return os.path.commonpath([path, folder]) == folder


def _sees_system_site() -> bool:
    # https://docs.python.org/3/library/site.html: the file's keys are `name = value` lines.
    text = Path(sys.prefix, "pyvenv.cfg").read_text()
    pairs = (line.partition("=") for line in text.splitlines())
    return any(
        name.strip().lower() == "include-system-site-packages" and value.strip().lower() == "true"
        for name, _, value in pairs
    )
