"""What the demo shows: one row per fold, with a score of the client's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from sklearn.metrics import accuracy_score, r2_score

from test_files import local, post_api
from test_files.examples import RANDOM_STATE, Example, Task

KB_PER_MB = 1024
STATE_STYLES = {"TESTED": "green", "ERROR": "bold red"}


@dataclass(frozen=True)
class PostedFold:
    """A fold as the demo posted it."""

    fold_id: int
    example: Example
    submission: str
    number: int
    priority: str


def split_locally(example: Example) -> local.Parts:
    """Make the split of an example again, from the client's own files."""
    if example.held_out_test is None:
        return local.split_specific(example.folder, example.files)
    return local.split_standard(
        example.data_file, example.target, example.held_out_test, RANDOM_STATE
    )


def score_predictions(
    task: Task, parts: local.Parts, predictions: npt.NDArray[np.float64]
) -> float:
    """Compare predictions of the test part with its labels: accuracy, or R2 of a regression."""
    if task is Task.REGRESSION:
        return float(r2_score(parts.y_test, predictions))
    classes = np.unique(parts.y_train)
    return float(accuracy_score(parts.y_test, classes[predictions.argmax(axis=1)]))


def print_report(
    console: Console, posted: Sequence[PostedFold], rows: Mapping[int, Mapping[str, Any]]
) -> None:
    """Print the table of all folds and, under it, the log of each that failed."""
    title = "Folds (H: high priority)"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for name in ("dataset", "submission", "fold", "state"):
        table.add_column(name, no_wrap=True)
    for name in ("wall s", "CPU s", "peak MB", "score"):
        table.add_column(name, no_wrap=True, justify="right")
    last = {(fold.example.name, fold.submission): fold.fold_id for fold in posted}
    for fold in posted:
        ends_section = last[fold.example.name, fold.submission] == fold.fold_id
        table.add_row(*_cells(fold, rows.get(fold.fold_id, {})), end_section=ends_section)
    console.print(table)
    for fold in posted:
        _print_failure(console, fold, rows.get(fold.fold_id, {}))


def _cells(fold: PostedFold, row: Mapping[str, Any]) -> list[Text | str]:
    state = str(row.get("state", "?"))
    return [
        fold.example.name,
        fold.submission,
        f"{fold.number} H" if fold.priority == "H" else str(fold.number),
        Text(state, style=STATE_STYLES.get(state, "yellow")),
        _format(_add(row, "train_time", "validation_time", "test_time"), ".3f"),
        _format(_add(row, "train_cpu_time", "test_cpu_time"), ".3f"),
        _format(_peak_mb(row), ".1f"),
        _format_score(fold.example, row),
    ]


def _add(row: Mapping[str, Any], *names: str) -> float | None:
    measured = [row[name] for name in names if row.get(name) is not None]
    return sum(measured) if measured else None


def _peak_mb(row: Mapping[str, Any]) -> float | None:
    measured = [row[name] for name in ("train_memory", "test_memory") if row.get(name) is not None]
    return max(measured) / KB_PER_MB if measured else None


def _format(value: float | None, pattern: str) -> str:
    return "-" if value is None else format(value, pattern)


def _format_score(example: Example, row: Mapping[str, Any]) -> str:
    if row.get("state") != "TESTED":
        return "-"
    predictions = post_api.decode_predictions(
        row["test_predictions"], row["test_predictions_shape"]
    )
    score = score_predictions(example.task, _split_once(example), predictions)
    return f"{score:.3f} {'R2 ' if example.task is Task.REGRESSION else 'acc'}"


_split_once = cache(split_locally)


def _print_failure(console: Console, fold: PostedFold, row: Mapping[str, Any]) -> None:
    state = row.get("state")
    if state == "TESTED":
        return
    cause = row.get("error_code") or row.get("waiting_because") or "not finished"
    name = f"{fold.example.name}, {fold.submission}, fold {fold.number}"
    console.print(f"[bold red]{escape(f'{name}: {state}, {cause}')}[/]")
    console.print(row.get("log_messages") or "(no log)", markup=False, highlight=False)
