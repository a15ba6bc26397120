"""Import every module of the product, without what only its tests need.

It needs no test runner, so that it also runs where nothing but `requirements.txt` is installed:

    .venv/bin/python -m tests.import_product
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.metadata
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
PACKAGES = ("datarun", "runapp", "test_files")
# Code of participants and datasets, which runs in a child with names of its own.
SUBMISSIONS = ("probes", "submissions", "custom")


class Hidden(importlib.abc.MetaPathFinder):
    """Hides packages that are installed, as if they were not."""

    def __init__(self, packages: frozenset[str]) -> None:
        self.packages = packages

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname.partition(".")[0] in self.packages:
            raise ModuleNotFoundError(f"{fullname} is not in requirements.txt", name=fullname)


def normalise(name: str) -> str:
    """Return the name under which a package index knows a distribution."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_requirements(path: Path) -> set[str]:
    """Return the normalised names of the distributions that a file pins."""
    return {normalise(name) for name in re.findall(r"^([\w.-]+)==", path.read_text(), re.MULTILINE)}


def list_hidden() -> frozenset[str]:
    """Return the top-level packages of all distributions that the product does not require."""
    required = read_requirements(PROJECT / "requirements.txt") | {"pip", "setuptools"}
    found = importlib.metadata.packages_distributions().items()
    return frozenset(name for name, owners in found if not required & {*map(normalise, owners)})


def list_modules() -> Iterator[str]:
    """Name every module of the product."""
    for package in PACKAGES:
        for path in sorted((PROJECT / package).rglob("*.py")):
            words: Sequence[str] = path.relative_to(PROJECT).with_suffix("").parts
            if set(SUBMISSIONS) & set(words) or words[-1] == "__main__":
                continue
            if all(word.isidentifier() for word in words):
                yield ".".join(words).removesuffix(".__init__")


def main() -> None:
    """Import everything; what is missing ends the program with its traceback."""
    with tempfile.TemporaryDirectory(prefix="datarun-imports-") as home:
        os.environ["DATARUN_HOME"] = home
        sys.meta_path.insert(0, Hidden(list_hidden()))
        importlib.import_module("datarun.wsgi")
        modules = list(list_modules())
        for module in modules:
            importlib.import_module(module)
    print(f"{len(modules)} modules imported")


if __name__ == "__main__":
    main()
