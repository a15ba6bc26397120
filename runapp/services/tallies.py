"""Counts what happens on all machines, in the database: one scrape of a web server tells all.

A count is written by the transaction in which it happens, right before the clock is taken: so it is
there if and only if what it counts is, and who waits for its row waits for the clock anyway. All
rows of one transaction are written by one statement, in one order.

Folds that end are counted twice: as a metric, and for operators under the ten minutes that it is.
"""

from __future__ import annotations

import json
import math
import os
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from django.db import connection
from django.db.models import Sum

from runapp import ends
from runapp.models import Tally
from runapp.search import ERROR_CODES

_N_SHARDS = 8
_WRITE = """
INSERT INTO runapp_tally (name, labels, shard, value) VALUES {rows}
ON CONFLICT (name, labels, shard) DO UPDATE SET value = runapp_tally.value + excluded.value
"""

# The name of a sample and its labels as they are kept.
Sample = tuple[str, str]
_gathered: ContextVar[dict[Sample, float] | None] = ContextVar("gathered", default=None)


@dataclass(frozen=True)
class Counter:
    """Something that is counted.

    Parameters
    ----------
    name : str
        Without the `_total` at its end.
    known : tuple, optional
        The labels' values that are told before anything was counted under them: what appears
        with its first count has not risen, by the rules of Prometheus.
    """

    name: str
    text: str
    labels: tuple[str, ...] = ()
    known: tuple[tuple[str, ...], ...] = ((),)


@dataclass(frozen=True)
class Histogram:
    """Something that is measured again and again.

    Parameters
    ----------
    bounds : tuple of float
        The upper ends of its buckets but for the last, which has none.
    """

    name: str
    text: str
    labels: tuple[str, ...]
    known: tuple[tuple[str, ...], ...]
    bounds: tuple[float, ...]


_SECONDS = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
_BYTES = tuple(float(2**power) for power in range(22, 38, 2))
_STAGES = (("train",), ("validation",), ("test",))
_METERED = (("train",), ("test",))

FOLDS_FINISHED = Counter(
    "datarun_folds_finished",
    "Folds that ended, counted each time they did.",
    ("outcome", "error_code"),
    (("tested", ""), *(("error", code) for code in ERROR_CODES)),
)
LEASES_EXPIRED = Counter(
    "datarun_leases_expired",
    "Claims that were returned because their worker was silent.",
    ("kind",),
    (("fold",), ("split",)),
)
WRITES_REFUSED = Counter(
    "datarun_writes_refused",
    "Results and stages that arrived too late for their attempt.",
)
KEEPER_STARTS = Counter(
    "datarun_keeper_starts",
    "Keepers started: the first of a slot, or in place of a worn or lost one.",
    ("reason",),
    (("first",), ("worn",), ("lost",)),
)
STAGE_SECONDS = Histogram(
    "datarun_stage_seconds",
    "Wall time of a stage of a fold.",
    ("stage",),
    _STAGES,
    _SECONDS,
)
STAGE_CPU_SECONDS = Histogram(
    "datarun_stage_cpu_seconds",
    "CPU time of a stage of a fold; that of the validation is not kept.",
    ("stage",),
    _METERED,
    _SECONDS,
)
STAGE_MEMORY_BYTES = Histogram(
    "datarun_stage_peak_memory_bytes",
    "Peak memory of a stage of a fold.",
    ("stage",),
    _METERED,
    _BYTES,
)
CLAIM_LATENCY_SECONDS = Histogram(
    "datarun_claim_latency_seconds",
    "From the post of a fold to the claim of the attempt that ended it.",
    ("priority",),
    (("H",), ("L",)),
    _SECONDS,
)
COUNTERS = (FOLDS_FINISHED, LEASES_EXPIRED, WRITES_REFUSED, KEEPER_STARTS)
HISTOGRAMS = (STAGE_SECONDS, STAGE_CPU_SECONDS, STAGE_MEMORY_BYTES, CLAIM_LATENCY_SECONDS)


def count(counter: Counter, amount: float = 1, **labels: str) -> None:
    """Count something, with the transaction that `publishing` has opened or at once."""
    _add({_make_sample(counter.name, labels): amount})


def observe(histogram: Histogram, value: float, **labels: str) -> None:
    """Count a measurement, likewise."""
    place = bisect_left(histogram.bounds, value)
    bound = format_bound([*histogram.bounds, math.inf][place])
    _add(
        {
            _make_sample(f"{histogram.name}_bucket", {**labels, "le": bound}): 1,
            _make_sample(f"{histogram.name}_sum", labels): value,
        }
    )


def count_ends(number: int, *, outcome: ends.Outcome, error_code: str) -> None:
    """Count folds that came to an end, likewise."""
    labels = {"outcome": str(outcome), "error_code": error_code}
    _add(
        {
            _make_sample(FOLDS_FINISHED.name, labels): number,
            (ends.NAME, ends.make_labels(ends.NOW, outcome)): number,
        }
    )


def format_bound(bound: float) -> str:
    """Return the upper end of a bucket as it is kept and told."""
    return "+Inf" if math.isinf(bound) else f"{bound:.12g}"


@contextmanager
def gathering() -> Iterator[None]:
    """Write what is counted within at its end, in the caller's transaction; nothing if it fails."""
    samples: dict[Sample, float] = {}
    token = _gathered.set(samples)
    try:
        yield
        _write(samples)
    finally:
        _gathered.reset(token)


def read_samples() -> dict[Sample, float]:
    """Return all that was counted of metrics so far, by sample."""
    rows = Tally.objects.filter(name__in=_list_names())
    sums = rows.values("name", "labels").annotate(total=Sum("value"))
    return {(row["name"], row["labels"]): row["total"] for row in sums.order_by()}


def make_labels(labels: dict[str, str]) -> str:
    """Return labels as they are kept."""
    return json.dumps(labels, sort_keys=True, separators=(",", ":"))


def _list_names() -> list[str]:
    parts = [f"{each.name}_{part}" for each in HISTOGRAMS for part in ("bucket", "sum")]
    return [*(each.name for each in COUNTERS), *parts]


def _make_sample(name: str, labels: dict[str, str]) -> Sample:
    return name, make_labels(labels)


def _add(samples: dict[Sample, float]) -> None:
    gathered = _gathered.get()
    if gathered is None:
        _write(samples)
        return
    for sample, amount in samples.items():
        gathered[sample] = gathered.get(sample, 0) + amount


def _write(samples: dict[Sample, float]) -> None:
    if not samples:
        return
    # Sorted: two transactions of one shard lock the rows that both want in the same order.
    shard = os.getpid() % _N_SHARDS
    rows = [(name, labels, shard, value) for (name, labels), value in sorted(samples.items())]
    places = ", ".join(_make_place(name) for name, *_ in rows)
    with connection.cursor() as cursor:
        cursor.execute(_WRITE.format(rows=places), [value for row in rows for value in row])


def _make_place(name: str) -> str:
    labels = ends.express_now() if name == ends.NAME else "%s"
    return f"(%s, {labels}, %s, %s)"
