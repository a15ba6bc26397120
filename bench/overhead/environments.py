"""Throwaway environments for what a bench needs and the project does not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from bench.overhead.work import Unavailable

FOLDER = Path(__file__).resolve().parent
CACHE = FOLDER / ".cache"
REQUIREMENTS = FOLDER / "requirements.txt"
# What computes is to be the same everywhere, or times and predictions could not be compared.
SHARED = ("numpy", "scipy", "pandas", "scikit-learn", "joblib", "threadpoolctl")
INSTALL_SECONDS = 300


def make_environment(package: str) -> Path:
    """Return the `bin` folder of an environment that has the package; make it if need be.

    Raises
    ------
    Unavailable
        When it cannot be installed, with pip's own reason.
    """
    constraints = [f"{name}=={version(name)}" for name in SHARED]
    requirement = read_requirements()[package]
    stamp = "\n".join([sys.version, requirement, *constraints])
    folder = make_cache() / package
    if _read_stamp(folder) != stamp:
        shutil.rmtree(folder, ignore_errors=True)
        _install(folder, requirement, constraints)
        (folder / "stamp").write_text(stamp)
    return folder / "bin"


def make_cache() -> Path:
    """Return the cache folder, which git does not see."""
    CACHE.mkdir(exist_ok=True)
    (CACHE / ".gitignore").write_text("*\n")
    return CACHE


def read_requirements(path: Path = REQUIREMENTS) -> Mapping[str, str]:
    """Return the pinned requirements by the name of their package."""
    lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    return {line.partition("==")[0]: line for line in lines if line}


def _read_stamp(folder: Path) -> str | None:
    try:
        return (folder / "stamp").read_text()
    except FileNotFoundError:
        return None


def _install(folder: Path, requirement: str, constraints: list[str]) -> None:
    _run([sys.executable, "-m", "venv", str(folder)], what=requirement)
    path = folder / "constraints.txt"
    path.write_text("\n".join(constraints) + "\n")
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    _run([*pip, "install", "--constraint", str(path), requirement], what=requirement)


def _run(command: list[str], *, what: str) -> None:
    try:
        done = subprocess.run(
            command,
            # A path of the project's own would shadow what is installed.
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            check=False,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{what} was not installed within {INSTALL_SECONDS} s") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise Unavailable(f"{what} could not be installed: {last}")
