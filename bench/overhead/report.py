"""From times to ratios, and from ratios to tables; nothing here measures."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

REFERENCE = "bare"
# What no contender stands behind in a table of parts.
NOTHING = "-"


@dataclass(frozen=True)
class Sample:
    """What a contender needed for a fold, in one round.

    Attributes
    ----------
    seconds_per_fold : float
        Seconds that a slot needed for a fold: from the first start to the last finish, times the
        number of slots, divided by the number of folds.
    n_folds : int
        How many folds that were.
    n_different : int
        How many of them were predicted otherwise than bare.
    parts : mapping of str to tuple of float
        Seconds of each fold by the name of what took them.
    isolation : str
        What was seen of it; empty where nobody looked.
    """

    round: int
    work: str
    contender: str
    seconds_per_fold: float
    n_folds: int
    n_different: int = 0
    parts: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    isolation: str = ""


@dataclass(frozen=True)
class Spread:
    """Median, minimum and maximum of some figures."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        median, low, high = map(show_number, (self.median, self.low, self.high))
        return f"{median} [{low}-{high}]"


@dataclass(frozen=True)
class Entry:
    """What the table says of a contender beside its figures."""

    name: str
    title: str
    isolation: str
    remark: str


@dataclass(frozen=True)
class Report:
    """All that a run of the bench found out.

    Attributes
    ----------
    machine : tuple of str
        Lines that say where and how it was measured.
    works : mapping of str to str
        What each work is, by its name.
    entries : tuple of Entry
        The contenders that were asked for, in the order of the table.
    samples : tuple of Sample
        All figures.
    troubles : mapping of str to str
        Why a contender has no figures, or not all; by its name.
    """

    machine: tuple[str, ...]
    works: Mapping[str, str]
    entries: tuple[Entry, ...]
    samples: tuple[Sample, ...]
    troubles: Mapping[str, str]


def show_number(value: float) -> str:
    """Show three digits or so, as no more of a ratio holds."""
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f}"


def list_ratios(samples: Iterable[Sample], *, work: str, contender: str) -> list[float]:
    """Return the ratios to the reference of the same round, of the rounds that have both."""
    ours, bare = (
        {one.round: one for one in samples if (one.work, one.contender) == (work, name)}
        for name in (contender, REFERENCE)
    )
    return [
        ours[number].seconds_per_fold / bare[number].seconds_per_fold
        for number in sorted(ours.keys() & bare.keys())
    ]


def spread_ratios(samples: Iterable[Sample], *, work: str, contender: str) -> Spread | None:
    """Return the spread of a contender's ratios; None when there are none."""
    ratios = list_ratios(samples, work=work, contender=contender)
    return Spread.of(ratios) if ratios else None


def make_rows(report: Report) -> list[list[str]]:
    """Return the cells of the table: contender, isolation, a ratio per work, remarks."""
    return [_make_row(report, entry) for entry in report.entries]


def _make_row(report: Report, entry: Entry) -> list[str]:
    own = [one for one in report.samples if one.contender == entry.name]
    seen = sorted({one.isolation for one in own if one.isolation})
    spreads = [
        spread_ratios(report.samples, work=work, contender=entry.name) for work in report.works
    ]
    cells = [NOTHING if spread is None else str(spread) for spread in spreads]
    return [
        entry.title,
        "; or: ".join(seen) or entry.isolation,
        *cells,
        _make_remark(report, entry),
    ]


def _make_remark(report: Report, entry: Entry) -> str:
    own = [one for one in report.samples if one.contender == entry.name]
    different, n_folds = sum(one.n_different for one in own), sum(one.n_folds for one in own)
    remarks = [entry.remark] if entry.remark else []
    if entry.name == REFERENCE:
        remarks += [_tell_absolute(report, work) for work in report.works]
    remarks += [scaled for work in report.works if (scaled := _tell_scaled(report, work, entry))]
    if different:
        remarks.append(f"PREDICTIONS DIFFER from bare in {different} of {n_folds} folds")
    if entry.name in report.troubles:
        remarks.append(f"NOT COMPLETE: {report.troubles[entry.name]}")
    return "; ".join(remarks)


def _tell_absolute(report: Report, work: str) -> str:
    bare = _select(report, work, REFERENCE)
    if not bare:
        return f"{work}: not measured"
    # How far it spreads tells how quiet the machine was.
    return f"{work}: {Spread.of([one.seconds_per_fold * 1000 for one in bare])} ms a fold"


def _tell_scaled(report: Report, work: str, entry: Entry) -> str:
    """Tell from how many folds a figure was scaled; empty when it did all of them."""
    own, bare = (_select(report, work, name) for name in (entry.name, REFERENCE))
    if not own or not bare or own[0].n_folds == bare[0].n_folds:
        return ""
    return f"{work}: scaled from {own[0].n_folds} folds"


def _select(report: Report, work: str, contender: str) -> list[Sample]:
    return [one for one in report.samples if (one.work, one.contender) == (work, contender)]


def list_part_names(report: Report, *, work: str, contenders: Sequence[str]) -> list[str]:
    """List the named parts of a fold's time in the order in which they come."""
    names: dict[str, None] = {}
    # The one with most parts knows the order.
    found = [_gather_parts(report, work=work, contender=name) for name in contenders]
    for parts in sorted(found, key=len, reverse=True):
        names.update(dict.fromkeys(parts))
    return list(names)


def make_part_rows(report: Report, *, work: str, contenders: Sequence[str]) -> list[list[str]]:
    """Return rows of a part's name and its median in milliseconds for each contender."""
    gathered = [_gather_parts(report, work=work, contender=name) for name in contenders]
    return [
        [part, *(_show_milliseconds(parts.get(part)) for parts in gathered)]
        for part in list_part_names(report, work=work, contenders=contenders)
    ]


def _gather_parts(report: Report, *, work: str, contender: str) -> dict[str, list[float]]:
    gathered: dict[str, list[float]] = {}
    for one in _select(report, work, contender):
        for name, seconds in one.parts.items():
            gathered.setdefault(name, []).extend(seconds)
    return gathered


def _show_milliseconds(seconds: Sequence[float] | None) -> str:
    return f"{statistics.median(seconds) * 1000:.2f}" if seconds else NOTHING


def tell_starts(report: Report, *, contender: str, part: str) -> str:
    """Tell median and 95th percentile of a named part over all works and rounds."""
    gathered = [_gather_parts(report, work=work, contender=contender) for work in report.works]
    seconds = [one for parts in gathered for one in parts.get(part, [])]
    if len(seconds) < 2:
        return "not measured"
    median, late = statistics.median(seconds) * 1000, statistics.quantiles(seconds, n=20)[-1] * 1000
    return f"{median:.1f} ms median, {late:.1f} ms 95th percentile ({len(seconds)} folds)"


def render_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in markdown."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(_escape(cell) for cell in line) + " |" for line in lines)


def _escape(cell: str) -> str:
    return " ".join(cell.split()).replace("|", "\\|")
