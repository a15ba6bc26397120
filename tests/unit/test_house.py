"""The map of the house and the table of rules (docs/design.md) say where things stand."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_documentation import DESIGN, PROJECT, read_section

HOUSE = PROJECT / "runapp"
# What Django's and Python's own conventions put there.
UNMAPPED = {"__init__.py", "__pycache__", "migrations", "static", "templates"}
MOST_MODULES, MOST_LAYERS, LEAST_RULES = 14, 12, 20


def read_map() -> str:
    return read_section(DESIGN, "Map of the house")


def list_rows(n_cells: int) -> list[list[str]]:
    """Return the rows of the section's tables that have so many cells and begin with code."""
    lines = [line for line in read_map().splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in rows if len(row) == n_cells and "`" in "".join(row)]


def read_places() -> dict[str, int]:
    """Return the places of the map and their layers."""
    rows = [row for row in list_rows(3) if row[0].startswith("`")]
    return {row[0].strip("`"): int(row[2]) for row in rows}


def list_rules() -> list[tuple[str, str]]:
    rows = [row for row in list_rows(3) if not row[0].startswith("`")]
    return [(row[1].strip("`"), row[2].strip("`")) for row in rows]


def read_contract() -> dict[str, Any]:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    contracts: list[dict[str, Any]] = project["tool"]["importlinter"]["contracts"]
    (layers,) = [contract for contract in contracts if contract["type"] == "layers"]
    assert all("ignore_imports" not in contract for contract in contracts)
    return layers


def list_rooms(folder: Path) -> set[str]:
    """Return the modules and packages that lie directly in a package, as the map names them."""
    place = folder.relative_to(PROJECT)
    modules = {f"{place}/{path.name}" for path in folder.glob("*.py")}
    packages = {f"{place}/{path.parent.name}/" for path in folder.glob("*/__init__.py")}
    left_out = {f"{place}/{name}" for name in UNMAPPED} | {f"{place}/{name}/" for name in UNMAPPED}
    return (modules | packages) - left_out


def test_map_names_every_module_and_package() -> None:
    assert set(read_places()) == list_rooms(HOUSE)


def test_map_of_the_runner_names_every_module_and_package() -> None:
    named = {row[0].strip("`") for row in list_rows(2)}

    assert named == list_rooms(HOUSE / "runner")


def test_layers_of_the_map_are_those_of_the_contract() -> None:
    layers = [layer.split(" | ") for layer in read_contract()["layers"]]
    of_contract = {name: number for number, names in enumerate(layers, 1) for name in names}

    places = read_places()

    of_map = {Path(place).stem: layer for place, layer in places.items()}
    assert of_map == of_contract
    assert list(places.values()) == sorted(places.values())


def test_house_stays_easy_to_look_over() -> None:
    modules = [path for path in HOUSE.glob("*.py") if path.name != "__init__.py"]

    assert len(modules) <= MOST_MODULES
    assert len(read_contract()["layers"]) <= MOST_LAYERS


def test_every_package_says_what_it_holds() -> None:
    packages = [path for path in HOUSE.rglob("__init__.py") if "migrations" not in path.parts]
    silent = [path for path in packages if not ast.get_docstring(ast.parse(path.read_text()))]

    # Django looks into it for modules and nothing else.
    assert {str(path.relative_to(HOUSE)) for path in silent} <= {
        "__init__.py",
        "management/commands/__init__.py",
    }


@pytest.mark.parametrize(("module", "name"), list_rules())
def test_rule_stands_where_the_table_says(module: str, name: str) -> None:
    held = importlib.import_module(module)

    found = reduce(getattr, name.split("."), held)

    # Where it is made, not where it is handed on.
    assert getattr(found, "__module__", module) in (module, "builtins", "typing")
    assert name.split(".")[0] in list_made(held)


def list_made(module: Any) -> set[str]:
    """Return the names that a module makes itself."""
    made: set[str] = set()
    for node in ast.parse(Path(module.__file__).read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            made.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            made |= {target.id for target in targets if isinstance(target, ast.Name)}
    return made


def test_table_has_the_rules() -> None:
    rules = list_rules()

    assert len(rules) >= LEAST_RULES
    assert len(set(rules)) == len(rules)


def test_modules_that_the_design_names_exist() -> None:
    named = set(re.findall(r"`([a-z_0-9]+(?:/[a-z_0-9]+)*\.py)`", DESIGN.read_text()))
    folders = ("datarun", "runapp", "runapp/runner", "test_files", "tests/functional")
    roots = (PROJECT, *(PROJECT / folder for folder in folders))

    missing = [name for name in named if not any((root / name).is_file() for root in roots)]

    assert missing == []
