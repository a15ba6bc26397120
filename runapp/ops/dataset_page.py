"""One dataset: its submissions and their folds as a grid, and what its folds have used.

What could be many is bounded: the grid has pages, and the charts are of the folds that were posted
last.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Subquery, Sum, Value

from runapp.common.exceptions import NotFound
from runapp.common.transitions import Phase, State
from runapp.models import RawData, Submission, SubmissionFold
from runapp.ops.fold_rows import KB_IN_MB
from runapp.ops.overview import DatasetLine, find_dataset
from runapp.scheduling.live_workers import list_live_workers

SUBMISSIONS_ON_PAGE = 20
FOLDS_IN_ROW = 30
CHARTED = 300
_BARS = 20
LETTERS = {"waiting": "W", State.TODO: "R", State.TRAINED: "F", State.VALIDATED: "V"} | {
    State.TESTED: "T",
    State.ERROR: "E",
}


@dataclass(frozen=True)
class Cell:
    """One fold in the grid."""

    id: int
    number: int | None
    letter: str
    state: str
    said: str


@dataclass(frozen=True)
class Row:
    """One submission in the grid."""

    submission_id: int
    number: int | None
    owner: str
    cells: tuple[Cell, ...]
    has_more: bool


@dataclass(frozen=True)
class Bar:
    """How many folds used how much: from where it begins on, and less than where it ends."""

    begin: float
    end: float
    count: int


@dataclass(frozen=True)
class Chart:
    """How a measure is spread over folds; the last bar holds the greatest value too."""

    name: str
    unit: str
    limit: float
    bars: tuple[Bar, ...]
    n_folds: int
    median: float | None
    most: float | None

    @property
    def shows_limit(self) -> bool:
        """Whether the limit lies within what is shown."""
        return bool(self.bars) and self.limit <= self.bars[-1].end

    @property
    def data(self) -> dict[str, Any]:
        """What is drawn."""
        return {
            "kind": "histogram",
            "name": self.name,
            "unit": self.unit,
            "edges": [0.0, *(bar.end for bar in self.bars)],
            "counts": [bar.count for bar in self.bars],
            "limit": self.limit if self.shows_limit else None,
        }


@dataclass(frozen=True)
class DatasetPage:
    """One dataset, for the page of it."""

    raw_data: RawData
    line: DatasetLine
    rows: tuple[Row, ...]
    next: int | None
    charts: tuple[Chart, ...]
    seconds_left: float | None

    @property
    def is_counted(self) -> bool:
        """Whether all folds were counted."""
        return not any(count.is_bounded for count in self.line.counts.values())

    @property
    def n_all(self) -> int:
        """How many folds there are, as far as they were counted."""
        return self.n_ended + self.n_left

    @property
    def n_ended(self) -> int:
        """How many folds have ended, as far as they were counted."""
        return sum(self.line.counts[state].number for state in (State.TESTED, State.ERROR))

    @property
    def n_left(self) -> int:
        """How many folds wait or run, as far as they were counted."""
        return sum(self.line.counts[name].number for name in ("waiting", "running"))


def read_dataset_page(*, pk: int, before: int | None = None) -> DatasetPage:
    """Return all that is shown of a dataset; in five queries.

    Parameters
    ----------
    before : int, optional
        The key of the last submission that was shown.

    Raises
    ------
    NotFound
        When there is no such dataset.
    """
    raw_data = _find(pk)
    line = find_dataset(pk=pk)
    if raw_data is None or line is None:
        raise NotFound("There is no such dataset.")
    rows = _list_rows(raw_data, before)
    used = _read_used(raw_data)
    shown = tuple(rows[:SUBMISSIONS_ON_PAGE])
    return DatasetPage(
        raw_data=raw_data,
        line=line,
        rows=shown,
        next=shown[-1].submission_id if len(rows) > SUBMISSIONS_ON_PAGE else None,
        charts=_make_charts(used, raw_data.limits_in_force),
        seconds_left=_estimate(line, [row[0] for row in used], raw_data.n_slots or 0),
    )


def _find(pk: int) -> Any:
    slots = list_live_workers().order_by().annotate(all=Value(1)).values("all")
    n_slots = Subquery(slots.annotate(n=Sum("slots")).values("n"))
    return RawData.objects.filter(pk=pk).select_related("owner").annotate(n_slots=n_slots).first()


def _list_rows(raw_data: RawData, before: int | None) -> list[Row]:
    """Return the grid's rows, the newest submissions first; one more than a page has."""
    submissions = Submission.objects.filter(raw_data=raw_data).order_by("-pk")
    submissions = submissions if before is None else submissions.filter(pk__lt=before)
    columns = ("pk", "databoard_s_id", "owner__username")
    found = list(submissions.values_list(*columns)[: SUBMISSIONS_ON_PAGE + 1])
    cells: dict[int, list[Cell]] = {pk: [] for pk, _, _ in found}
    folds = SubmissionFold.objects.filter(submission__in=cells, rank__lte=FOLDS_IN_ROW)
    fold_columns = ("submission_id", "pk", "databoard_sf_id", "phase", "state", "error_code")
    for submission_id, *fold in folds.order_by("rank", "pk").values_list(*fold_columns):
        cells[submission_id].append(_make_cell(*fold))
    return [
        Row(pk, number, owner, tuple(cells[pk][:FOLDS_IN_ROW]), len(cells[pk]) > FOLDS_IN_ROW)
        for pk, number, owner in found
    ]


def _make_cell(pk: int, number: int | None, phase: str, state: str, error_code: str | None) -> Cell:
    standing = phase if phase == Phase.WAITING else State(state)
    shown = f"{phase}, {state}" if phase == Phase.RUNNING else (error_code or standing)
    is_begun = phase == Phase.RUNNING and state == State.TODO
    return Cell(pk, number, LETTERS[standing], "running" if is_begun else standing, str(shown))


def _read_used(raw_data: RawData) -> list[tuple[float | None, float | None, float | None]]:
    """Return wall seconds, CPU seconds and memory in MB of the latest folds that were tested."""
    folds = SubmissionFold.objects.filter(raw_data=raw_data, state=State.TESTED).order_by("-pk")
    columns = ("train_time", "validation_time", "test_time")
    others = ("train_cpu_time", "test_cpu_time", "train_memory", "test_memory")
    used = []
    for row in folds.values_list(*columns, *others)[:CHARTED]:
        peak = _reach(row[5:])
        used.append((_add(row[:3]), _add(row[3:5]), None if peak is None else peak / KB_IN_MB))
    return used


def _add(values: Sequence[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return sum(measured) if measured else None


def _reach(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _make_charts(
    used: Sequence[Sequence[float | None]], limits: dict[str, Any]
) -> tuple[Chart, ...]:
    kinds = (("CPU", "s", "cpu_seconds"), ("peak memory", "MB", "memory_mb"))
    return tuple(
        make_chart(name=name, unit=unit, limit=limits[limit], values=[row[place] for row in used])
        for place, (name, unit, limit) in enumerate((("wall", "s", "wall_seconds"), *kinds))
    )


def make_chart(*, name: str, unit: str, limit: float, values: Sequence[float | None]) -> Chart:
    """Return how values are spread; None is what was not measured."""
    measured = sorted(value for value in values if value is not None)
    if not measured:
        return Chart(name, unit, limit, (), 0, None, None)
    median, most = measured[len(measured) // 2], measured[-1]
    return Chart(name, unit, limit, _make_bars(measured, most), len(measured), median, most)


def _make_bars(measured: Sequence[float], most: float) -> tuple[Bar, ...]:
    """Return the bars of a histogram from nothing to the greatest value."""
    edges = [place * (most or 1.0) / _BARS for place in range(_BARS + 1)]
    counts = [0] * _BARS
    for value in measured:
        counts[min(bisect_right(edges, value), _BARS) - 1] += 1
    return tuple(map(Bar, edges[:-1], edges[1:], counts))


def _estimate(line: DatasetLine, walls: Sequence[float | None], n_slots: int) -> float | None:
    """Return how long what is left would take if all live slots did nothing else."""
    measured = [wall for wall in walls if wall is not None]
    if not measured or not n_slots or line.is_paused:
        return None
    n_left = line.counts["waiting"].number + line.counts["running"].number
    return math.ceil(n_left / n_slots) * sum(measured) / len(measured)
