"""What the two sides of the runner load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FRAMEWORKS = {"celery", "datarun", "django", "environ", "knox", "kombu", "rest_framework"}
SCIENCE = {"joblib", "pandas", "scipy", "sklearn"}


def list_loaded(module: str, *, options: str = "-sP") -> set[str]:
    """Name the top packages that importing a module loads in a fresh interpreter."""
    code = (
        f"import json, sys; sys.path.insert(0, {str(ROOT)!r}); import {module}; "
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    told = subprocess.run(
        [sys.executable, options, "-c", code], cwd="/", capture_output=True, check=True
    )
    return set(json.loads(told.stdout))


@pytest.mark.parametrize(
    "module", ["supervisor", "keeper.handle", "contract", "run", "stages", "selftest.selftest"]
)
def test_import_of_the_workers_side_loads_no_framework_and_no_science(module: str) -> None:
    loaded = list_loaded(f"runapp.runner.{module}")

    assert "runapp" in loaded
    assert not loaded & (FRAMEWORKS | SCIENCE)


def test_import_of_the_keeper_loads_no_framework() -> None:
    loaded = list_loaded("runapp.runner.keeper.process")

    assert "pandas" in loaded
    assert not loaded & FRAMEWORKS


@pytest.mark.parametrize(
    "module",
    [
        "keeper.launch",
        "sandbox.libc",
        "sandbox.levels",
        "sandbox.mounts",
        "sandbox.root_filesystem",
    ],
)
def test_import_of_the_launcher_loads_the_standard_library_alone(module: str) -> None:
    # As it is started: without the environment's packages.
    loaded = list_loaded(f"runapp.runner.{module}", options="-ISP")

    assert loaded - sys.stdlib_module_names - {"__main__"} == {"runapp"}


def test_import_of_the_sandbox_loads_no_science() -> None:
    loaded = list_loaded("runapp.runner.sandbox.enter")

    assert not loaded & (FRAMEWORKS | SCIENCE)
