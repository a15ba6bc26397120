"""README.md and docs/ say what the code does: links, settings, targets, codes, snippets."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from datarun.variables import VARIABLES, write_page
from runapp.common.transitions import ALLOWED, State
from runapp.runner.contract import Outcome
from runapp.runner.selftest.promises import Promise

PROJECT = Path(__file__).resolve().parents[2]
PAGES = [PROJECT / "README.md", PROJECT / "CHANGELOG.md", *sorted((PROJECT / "docs").glob("*.md"))]
API, DESIGN = PROJECT / "docs" / "api.md", PROJECT / "docs" / "design.md"
SETTINGS = [PROJECT / "datarun" / name for name in ("settings.py", "environment.py")]
# Outcomes that no row ever carries as its error code.
_INTERNAL = {Outcome.TESTED, Outcome.STOPPED}
_READERS = {
    "read_whole_number",
    "read_text",
    "read_list",
    "read_flag",
    "read_promises",
    "read_quota",
    "get",
    "str",
}


def read_section(page: Path, heading: str) -> str:
    """Return what stands between a heading and the next of its rank."""
    parts = re.split(r"^## ", page.read_text(), flags=re.MULTILINE)
    (section,) = [part for part in parts if part.startswith(f"{heading}\n")]
    return section


def read_table(text: str) -> dict[str, list[str]]:
    """Return the rows of a section's tables by the code in their first cell."""
    without_heads = re.sub(r"^\|.*\n\|---.*$", "", text, flags=re.MULTILINE)
    lines = [line for line in without_heads.splitlines() if line.startswith("| `")]
    rows = [line.strip("|").split("|") for line in lines]
    return {
        code: [cell.strip() for cell in cells[1:]]
        for cells in rows
        for code in re.findall(r"`([^`]+)`", cells[0])
    }


def list_code_blocks(page: Path, language: str) -> list[str]:
    # All blocks are matched, as the end of one would pass for the start of another.
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [block for name, block in blocks if name == language]


def walk_calls(*paths: Path) -> Iterator[ast.Call]:
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield node


def list_strings(node: ast.AST) -> set[str]:
    return {
        inner.value
        for inner in ast.walk(node)
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str)
    }


def read_variables() -> set[str]:
    """Return the environment variables that the settings read."""
    variables = set()
    for call in walk_calls(*SETTINGS):
        name = getattr(call.func, "id", getattr(call.func, "attr", ""))
        first = call.args[0] if call.args else None
        if name not in _READERS or not isinstance(first, ast.Constant):
            continue
        if isinstance(first.value, str) and re.fullmatch(r"[A-Z][A-Z_]+", first.value):
            variables.add(first.value)
    return variables


def list_fold_codes() -> set[str]:
    """Return every error code that a fold may carry."""
    codes = {outcome.value for outcome in Outcome if not outcome.is_ours} - _INTERNAL
    for call in walk_calls(*(PROJECT / "runapp").rglob("*.py")):
        for keyword in call.keywords:
            if keyword.arg == "error_code":
                codes |= list_strings(keyword.value)
    return codes


def list_class_codes(definition: ast.ClassDef) -> set[str]:
    """Return the code of an error's class, or those of a field's messages."""
    codes = set()
    for node in definition.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if node.targets[0].id == "code":
                codes |= list_strings(node.value)
            elif node.targets[0].id == "default_error_messages" and isinstance(
                node.value, ast.Dict
            ):
                codes |= set().union(*(list_strings(key) for key in node.value.keys if key))
    return codes


def list_refusal_codes() -> set[str]:
    """Return the codes of our own refusals: of errors, of fields, and those named in a call."""
    codes = set()
    for path in (PROJECT / "runapp").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                codes |= list_class_codes(node)
            elif isinstance(node, ast.keyword) and node.arg == "code":
                codes |= list_strings(node.value)
    # It is answered as the contract words it, without a code.
    return codes - {"specific_missing"}


def slugify(heading: str) -> str:
    """Make a heading's anchor as GitHub does."""
    text = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return text.replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_resolve(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    broken = []

    for link in links:
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        is_page = target.suffix == ".md" and target.is_file()
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.M) if is_page else []
        if not target.exists() or (anchor and anchor not in map(slugify, headings)):
            broken.append(link)

    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_of_the_project_that_are_named_exist(page: Path) -> None:
    roots = "datarun|runapp|test_files|tests|docs|bench"
    named = set(re.findall(rf"`((?:{roots})/[\w./*-]*)`", page.read_text()))

    missing = [name for name in named if not list(PROJECT.glob(name.rstrip("/")))]

    assert missing == []


def test_page_of_settings_is_what_the_code_writes() -> None:
    committed = (PROJECT / "docs" / "settings.md").read_text()

    assert committed == write_page(), "docs/settings.md is old: run `make settings`"


def test_page_of_settings_names_every_variable_and_no_other() -> None:
    table = read_table((PROJECT / "docs" / "settings.md").read_text())

    assert set(table) == set(VARIABLES) == read_variables()


def test_variables_named_anywhere_exist() -> None:
    text = "".join(page.read_text() for page in PAGES)

    assert set(re.findall(r"DATARUN_[A-Z_]+", text)) <= set(VARIABLES)


def test_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    named = []
    for page in PAGES:
        named += re.findall(r"`(?:[A-Z_]+=\S+ )?make ([a-z]+)", page.read_text())
        for block in list_code_blocks(page, ""):
            named += re.findall(r"^(?:\$ |[A-Z_]+=\S+ )?make ([a-z]+)", block, re.MULTILINE)

    assert {"demo", "test", "serve"} <= set(named)
    assert set(named) <= targets


def test_management_commands_that_are_named_exist() -> None:
    own = {path.stem for path in (PROJECT / "runapp/management/commands").glob("[a-z]*.py")}
    djangos = {"migrate", "check", "dumpdata", "loaddata"}
    text = "".join(page.read_text() for page in PAGES)

    named = set(re.findall(r"manage\.py ([a-z]+)", text))

    assert own <= named
    assert named <= own | djangos


@pytest.mark.parametrize("page", [API, DESIGN], ids=lambda page: page.name)
def test_error_codes_of_folds_are_those_of_the_code(page: Path) -> None:
    assert set(read_table(read_section(page, "Error codes"))) == list_fold_codes()


def test_error_codes_told_to_operators_exist() -> None:
    page = PROJECT / "docs" / "operations.md"
    section = read_section(page, "Error codes that are the operator's")

    assert set(read_table(section)) <= list_fold_codes()


@pytest.mark.parametrize(
    ("page", "heading"), [("api.md", "Why a fold waits"), ("operations.md", "When a fold waits")]
)
def test_reasons_to_wait_are_those_of_the_code(page: str, heading: str) -> None:
    tree = ast.parse((PROJECT / "runapp" / "scheduling" / "waiting.py").read_text())
    (explain,) = [
        node for node in ast.walk(tree) if getattr(node, "name", None) == "explain_waiting"
    ]
    returned = [node.value for node in ast.walk(explain) if isinstance(node, ast.Return)]
    reasons = set().union(*(list_strings(value) for value in returned if value is not None))

    assert set(read_table(read_section(PROJECT / "docs" / page, heading))) == reasons


def test_promises_are_those_of_the_code() -> None:
    section = read_section(PROJECT / "docs" / "operations.md", "The self-test")

    assert list(read_table(section)) == list(Promise)


def test_codes_of_refusals_are_those_of_the_code() -> None:
    section = read_section(API, "Refusals")
    strings = set().union(
        *(list_strings(ast.parse(path.read_text())) for path in (PROJECT / "runapp").rglob("*.py"))
    )

    assert [code for code in sorted(list_refusal_codes()) if f"`{code}`" not in section] == []
    assert set(read_table(section)) <= strings


def test_endpoints_are_those_of_the_routes() -> None:
    from runapp.urls import urlpatterns

    told = {
        re.sub(r"\{\w+\}", "{}", path)
        for path in re.findall(r"^\| `[A-Z]+ ([^`]+)`", read_section(API, "Endpoints"), re.M)
    }
    routed = {re.sub(r"<[^>]+>", "{}", str(pattern.pattern)) for pattern in urlpatterns}
    aliases = {path for path in routed if path.startswith("raw_data/")}

    assert told == routed - aliases
    assert all(f"`{alias}`" in API.read_text() for alias in aliases)


def test_actions_and_filters_of_the_audit_are_those_of_the_code() -> None:
    from runapp.lists.filters import AuditFilter
    from runapp.models.audit import Action

    told = read_table(read_section(API, "The audit"))

    assert set(told) == {*Action.values, *AuditFilter.base_filters, "newest_first"}


def test_changes_of_phase_and_state_are_those_of_the_code() -> None:
    section = read_section(DESIGN, "Phases and states")
    pairs = re.findall(r"(waiting|running|done), `([A-Z]+)`", section)

    assert {(str(phase), str(state)) for phase, state in ALLOWED} == set(pairs)
    assert {state for _, state in pairs} == {str(state) for state in State}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_snippets_compile(page: Path) -> None:
    for number, block in enumerate(list_code_blocks(page, "python")):
        compile(block, f"{page.name}, snippet {number}", "exec")


def test_encoding_snippets_agree_with_the_client_module() -> None:
    from test_files import post_api

    names: dict[str, object] = {}
    exec(list_code_blocks(API, "python")[0], names)

    assert names["encode_indices"]([3, 1]) == post_api.encode_indices([3, 1])  # type: ignore[operator]
    text = post_api.encode_file(b"\0" * 32)
    decoded = names["decode_predictions"](text, [2, 2])  # type: ignore[operator]
    assert decoded.tolist() == [[0.0, 0.0], [0.0, 0.0]]
