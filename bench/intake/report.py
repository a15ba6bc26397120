"""From times to tables and aims; nothing here measures."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.intake.posting import Bulk
from bench.overhead.report import Spread, show_number

LEAST_TIMES_SINGLE = 20.0
MOST_TIMES_IDLE = 3.0
HEADERS = ("what", "figure")
AIM_HEADERS = ("aim", "figure", "")


@dataclass(frozen=True)
class Report:
    """What was found on one database; all lists have an element for each round.

    Attributes
    ----------
    single : sequence of float
        Folds a second, posted one by one.
    bulk : sequence of Bulk
        Folds in one request.
    idle, busy : sequence of list of float
        Seconds of single posts while nothing runs, and while the slots train.
    large : Bulk
        The largest request that is taken.
    """

    database: str
    single: Sequence[float]
    bulk: Sequence[Bulk]
    idle: Sequence[Sequence[float]]
    busy: Sequence[Sequence[float]]
    large: Bulk


def find_late(seconds: Sequence[float]) -> float:
    """Return the 99th percentile."""
    return statistics.quantiles(seconds, n=100, method="inclusive")[-1]


def make_rows(report: Report) -> list[list[str]]:
    """Return what was measured and its figure."""
    bulk, large = report.bulk[0], report.large
    idle, busy = ([1e3 * find_late(one) for one in rounds] for rounds in (report.idle, report.busy))
    return [
        ["single posts, folds a second", str(Spread.of(report.single))],
        [
            f"{bulk.n_folds:,} folds in a bulk, folds a second",
            str(Spread.of([one.rate for one in report.bulk])),
        ],
        [f"{large.n_folds:,} folds in a bulk, folds a second", show_number(large.rate)],
        [f"{large.n_folds:,} folds in a bulk, seconds", show_number(large.seconds)],
        [
            f"{large.n_folds:,} folds in a bulk, MB that the server grew by",
            f"{large.growth_bytes / 2**20:.1f}",
        ],
        ["median of a single post, idle, ms", _show_medians(report.idle)],
        ["median of a single post, both slots train, ms", _show_medians(report.busy)],
        ["99th percentile of a single post, idle, ms", str(Spread.of(idle))],
        ["99th percentile of a single post, both slots train, ms", str(Spread.of(busy))],
    ]


def make_aims(report: Report) -> list[list[str]]:
    """Return aim, figure and whether it is met."""
    gain = Spread.of(
        [one.rate / single for one, single in zip(report.bulk, report.single, strict=True)]
    )
    late = Spread.of(
        [
            find_late(busy) / find_late(idle)
            for busy, idle in zip(report.busy, report.idle, strict=True)
        ]
    )
    return [
        [
            f"folds in a bulk over single ones, a second: at least {LEAST_TIMES_SINGLE:g}",
            str(gain),
            _tell(gain.median >= LEAST_TIMES_SINGLE),
        ],
        [
            "99th percentile of a single post while both slots train, over idle: "
            f"below {MOST_TIMES_IDLE:g}",
            str(late),
            _tell(late.median < MOST_TIMES_IDLE),
        ],
    ]


def _show_medians(rounds: Sequence[Sequence[float]]) -> str:
    return str(Spread.of([1e3 * statistics.median(one) for one in rounds]))


def _tell(is_met: bool) -> str:
    return "met" if is_met else "missed"
