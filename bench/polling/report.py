"""From samples to tables and aims; nothing here measures."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from bench.overhead.report import Spread, show_number

OURS, PLAIN = "datarun", "plain"
NOTHING = "-"
HEADERS = (
    "request",
    "folds",
    "ms",
    "plain ms",
    "plain over datarun",
    "queries",
    "MB grown",
    "plain MB grown",
    "kB sent",
)
# What each figure is to be at most, or at least.
MOST_TIMES_FROM_SMALL_TO_LARGE = 1.3
MOST_GROWTH_BYTES = 50 * 2**20
MOST_QUERIES = 3
LEAST_TIMES_FASTER = {"sqlite": 8.0, "postgresql": 3.0}


class Kind(StrEnum):
    """What is asked; the value is its title."""

    WHOLE = "whole light list"
    PACKED = "whole light list, gzip"
    UNCHANGED = "304, nothing new"
    PAGE = "last page of 100"
    CHANGES = "10 changes"
    PREDICTIONS = "100 new predictions"


# Streams of whole lists ask once for each piece.
LISTS = (Kind.UNCHANGED, Kind.PAGE, Kind.CHANGES)
# What is to take as long however many folds there are.
STEADY = (Kind.PAGE, Kind.CHANGES, Kind.UNCHANGED)


@dataclass(frozen=True)
class Sample:
    """One answer.

    Attributes
    ----------
    n_folds : int
        How many folds the account has.
    contender : str
        Who answered.
    seconds : float
        From sending the request to having read all of the answer.
    growth_bytes : int
        By how much the server's resident memory grew meanwhile, at most.
    content_bytes : int
        How long the body was.
    """

    n_folds: int
    kind: Kind
    contender: str
    seconds: float
    growth_bytes: int
    content_bytes: int


@dataclass(frozen=True)
class Report:
    """What was found on one database.

    Attributes
    ----------
    rounds : sequence of list of Sample
        All samples of each round.
    queries : mapping
        How many queries a request took, by the number of folds and its kind.
    """

    database: str
    sizes: Sequence[int]
    rounds: Sequence[Sequence[Sample]]
    queries: Mapping[tuple[int, Kind], int]

    def list_samples(self, n_folds: int, kind: Kind, contender: str) -> list[Sample]:
        """Return the samples of one cell, of all rounds."""
        return [one for some in self.rounds for one in pick(some, n_folds, kind, contender)]

    def spread_seconds(self, n_folds: int, kind: Kind, contender: str) -> Spread | None:
        """Return the spread of the seconds, None where nothing was asked."""
        seconds = [one.seconds for one in self.list_samples(n_folds, kind, contender)]
        return Spread.of(seconds) if seconds else None


def pick(samples: Iterable[Sample], n_folds: int, kind: Kind, contender: str) -> list[Sample]:
    """Return the samples of one cell."""
    wanted = (n_folds, kind, contender)
    return [one for one in samples if (one.n_folds, one.kind, one.contender) == wanted]


def spread_gains(report: Report, n_folds: int, kind: Kind) -> Spread | None:
    """Return how many times as long as datarun the plain server took, round by round."""
    # The plain server has no gzip of its own; it is compared with what it sends.
    reference = Kind.WHOLE if kind is Kind.PACKED else kind
    return _spread_ratios(report, (n_folds, reference, PLAIN), (n_folds, kind, OURS))


def spread_growth_of_time(report: Report, kind: Kind) -> Spread | None:
    """Return how many times as long datarun took with most folds as with fewest."""
    first, last = report.sizes[0], report.sizes[-1]
    return _spread_ratios(report, (last, kind, OURS), (first, kind, OURS))


def _spread_ratios(
    report: Report, above: tuple[int, Kind, str], below: tuple[int, Kind, str]
) -> Spread | None:
    ratios = []
    for samples in report.rounds:
        over, under = ([one.seconds for one in pick(samples, *cell)] for cell in (above, below))
        if over and under:
            ratios.append(statistics.median(over) / statistics.median(under))
    return Spread.of(ratios) if ratios else None


def make_rows(report: Report) -> list[list[str]]:
    """Return the cells of the table."""
    return [_make_row(report, size, kind) for kind in Kind for size in report.sizes]


def _make_row(report: Report, n_folds: int, kind: Kind) -> list[str]:
    ours = report.list_samples(n_folds, kind, OURS)
    return [
        kind,
        f"{n_folds:,}",
        _show_milliseconds(report.spread_seconds(n_folds, kind, OURS)),
        _show_milliseconds(report.spread_seconds(n_folds, kind, PLAIN)),
        _show(spread_gains(report, n_folds, kind)),
        _show(report.queries.get((n_folds, kind))),
        _show_growth(ours),
        _show_growth(report.list_samples(n_folds, kind, PLAIN)),
        show_number(statistics.median(one.content_bytes for one in ours) / 1e3) if ours else "",
    ]


def _show(value: object) -> str:
    return NOTHING if value is None else str(value)


def _show_milliseconds(spread: Spread | None) -> str:
    if spread is None:
        return NOTHING
    return str(Spread(*(one * 1e3 for one in (spread.median, spread.low, spread.high))))


def _show_growth(samples: Sequence[Sample]) -> str:
    return f"{find_growth(samples) / 2**20:.1f}" if samples else NOTHING


def find_growth(samples: Iterable[Sample]) -> int:
    """Return the most that the server has grown during one answer, in bytes."""
    return max((one.growth_bytes for one in samples), default=0)


def make_aims(report: Report) -> list[list[str]]:
    """Return aim, figure and whether it is met."""
    largest = report.sizes[-1]
    found = [one for samples in report.rounds for one in samples if one.contender == OURS]
    queries = {kind: count for (_, kind), count in report.queries.items() if kind in LISTS}
    aims = [
        *(_make_steady_aim(report, kind) for kind in STEADY),
        _judge(
            f"{Kind.WHOLE}, {largest:,} folds: the plain server's time over ours",
            spread_gains(report, largest, Kind.WHOLE),
            at_least=LEAST_TIMES_FASTER[report.database],
        ),
    ]
    growth = find_growth(found)
    aims.append(
        [
            f"MB that the server grows by in one request, at most {MOST_GROWTH_BYTES / 2**20:.0f}",
            f"{growth / 2**20:.1f}",
            _tell(growth <= MOST_GROWTH_BYTES),
        ]
    )
    for kind in queries:
        most = max(count for (_, one), count in report.queries.items() if one is kind)
        aims.append([f"queries, {kind}: at most 3", str(most), _tell(most <= MOST_QUERIES)])
    return aims


def _make_steady_aim(report: Report, kind: Kind) -> list[str]:
    return _judge(
        f"{kind}: time with {report.sizes[-1]:,} folds over that with {report.sizes[0]:,}",
        spread_growth_of_time(report, kind),
        at_most=MOST_TIMES_FROM_SMALL_TO_LARGE,
    )


def _judge(
    title: str,
    spread: Spread | None,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> list[str]:
    bound = f"at least {at_least:g}" if at_least is not None else f"at most {at_most:g}"
    if spread is None:
        return [f"{title}, {bound}", NOTHING, NOTHING]
    is_met = (at_least is None or spread.median >= at_least) and (
        at_most is None or spread.median <= at_most
    )
    return [f"{title}, {bound}", str(spread), _tell(is_met)]


def _tell(is_met: bool) -> str:
    return "met" if is_met else "missed"


def make_figures(reports: Sequence[Report], *, title: str, caption: str) -> dict[str, Any]:
    """Return what the plot shows, as plain data: a panel for each request, a line each."""
    kinds = [kind for kind in Kind if kind is not Kind.PACKED]
    return {
        "title": title,
        "caption": caption,
        "panels": [
            {"title": kind, "lines": [line for one in reports for line in _make_lines(one, kind)]}
            for kind in kinds
        ],
    }


def _make_lines(report: Report, kind: Kind) -> list[dict[str, Any]]:
    spread: Callable[[int, str], Spread | None]
    spread = lambda size, name: report.spread_seconds(size, kind, name)  # noqa: E731
    return [
        {
            "contender": name,
            "database": report.database,
            "points": [
                {"n_folds": size, "median": one.median, "low": one.low, "high": one.high}
                for size in report.sizes
                if (one := spread(size, name)) is not None
            ],
        }
        for name in (OURS, PLAIN)
    ]
