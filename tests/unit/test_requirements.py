"""What is installed: only what runs the product, and for the tests only what they use."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.import_product import PROJECT, Hidden, list_hidden, normalise, read_requirements

# A dependency is used where its package is imported, or named by a string, as settings do.
USES = r"^\s*(?:import|from) {name}\b|[\"']{name}[\"'.]"
IS_STUBS = re.compile(r"^types-|-types$|-stubs$")
PRODUCT = ("datarun", "runapp", "test_files")
# Django's database engine imports it.
BY_DJANGO = {"psycopg"}
# Run as commands or as plugins; moto's server needs the last two.
BY_NAME = {
    "mypy",
    "pytest-django",
    "pytest-timeout",
    "pytest-xdist",
    "ruff",
    "flask",
    "flask-cors",
}


def read_dependencies(*, extra: str | None = None) -> set[str]:
    """Return the normalised names of what `pyproject.toml` asks for."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    lines = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return {normalise(re.split(r"[\[<>=! ;]", line)[0]) for line in lines}


def list_unused(dependencies: set[str], folders: tuple[str, ...]) -> set[str]:
    """Return those of which no package is imported or named in the folders."""
    files = [path for folder in folders for path in (PROJECT / folder).rglob("*.py")]
    source = "\n".join(path.read_text(errors="replace") for path in files if path != Path(__file__))
    packages: dict[str, set[str]] = {}
    for package, owners in packages_distributions().items():
        for owner in owners:
            packages.setdefault(normalise(owner), set()).add(package)
    return {
        name
        for name in dependencies
        if not any(
            re.search(USES.format(name=package), source, re.MULTILINE)
            for package in packages.get(name, ())
        )
    }


def test_product_is_imported_without_what_tests_need() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.import_product"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\d{3,} modules imported\n", done.stdout)


def test_packages_for_tests_are_hidden_from_the_product() -> None:
    hidden = list_hidden()

    assert {"pytest", "hypothesis", "moto", "playwright"} <= hidden
    assert not {"django", "numpy", "requests"} & hidden
    with pytest.raises(ModuleNotFoundError, match=r"not in requirements\.txt"):
        Hidden(hidden).find_spec("pytest.fixtures")


def test_every_runtime_dependency_is_used() -> None:
    unused = list_unused(read_dependencies(), PRODUCT)

    assert unused == BY_DJANGO


def test_every_dependency_of_the_tests_is_used() -> None:
    unused = list_unused(read_dependencies(extra="dev"), ("tests",))

    assert {name for name in unused if not IS_STUBS.search(name)} == BY_NAME


def test_every_dependency_is_pinned() -> None:
    product = read_requirements(PROJECT / "requirements.txt")
    tests = read_requirements(PROJECT / "requirements-dev.txt")

    assert read_dependencies() <= product
    assert read_dependencies(extra="dev") <= product | tests
    assert not product & tests
