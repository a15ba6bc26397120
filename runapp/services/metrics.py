"""What the database knows of the whole installation, as metrics of Prometheus.

Read at each scrape, by a handful of queries that do not grow with the folds that have ended. Names
of datasets are labels of the largest few only: what Prometheus keeps must not grow with them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any

from django.db import Error
from django.db.models.functions import Now
from prometheus_client import Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)

from runapp.models import RawData, SubmissionFold, Worker
from runapp.runner.promises import Promise
from runapp.selectors import Waiting, get_live_seconds, list_waiting
from runapp.services.condition import Level, check_broker, list_rooms
from runapp.services.tallies import (
    COUNTERS,
    HISTOGRAMS,
    Counter,
    Histogram,
    Sample,
    format_bound,
    make_labels,
    read_samples,
)
from runapp.transitions import Phase

logger = logging.getLogger(__name__)

MOST_DATASETS = 20
_OTHER = "other"


def collect_database() -> list[Metric]:
    """Return what the database knows; of one that is away, that alone."""
    try:
        found = [metric for collect in _COLLECTORS for metric in collect()]
    except Error as error:
        logger.warning("no metrics of the database: %s", " ".join(str(error).split()))
        return [_make_up("database", is_up=False)]
    return [_make_up("database", is_up=True), *found]


def collect_broker() -> list[Metric]:
    """Return whether this machine reaches the broker."""
    return [_make_up("broker", is_up=check_broker().level is not Level.FAIL)]


def collect_disks() -> list[Metric]:
    """Return what this machine has room for; nothing of disks that cannot be looked at."""
    try:
        rooms = list_rooms()
    except OSError as error:
        logger.warning("no metrics of the disks: %s", error)
        return []
    free = GaugeMetricFamily(
        "datarun_disk_free_bytes",
        "Free disk space of this machine's home and storage.",
        labels=["place"],
    )
    total = GaugeMetricFamily(
        "datarun_disk_total_bytes",
        "Disk size of this machine's home and storage.",
        labels=["place"],
    )
    for place, room in rooms.items():
        free.add_metric([place], room.free_bytes)
        total.add_metric([place], room.total_bytes)
    return [free, total]


def report_silence(name: str) -> list[Metric]:
    """Return what is told of a database, a broker or disks that do not answer in time."""
    return [] if name == "disks" else [_make_up(name, is_up=False)]


def _make_up(name: str, *, is_up: bool) -> Metric:
    return GaugeMetricFamily(
        f"datarun_{name}_up", f"Whether the {name} answers this web server.", value=int(is_up)
    )


def _collect_waiting() -> Iterator[Metric]:
    waiting = list_waiting()
    rows = RawData.objects.only("name", "state", "paused")
    datasets = rows.in_bulk({group.raw_data_id for group in waiting})
    folds = GaugeMetricFamily(
        "datarun_folds_waiting",
        "Waiting folds: by name for the datasets with the most, and all others together.",
        labels=["priority", "dataset", "name"],
    )
    for (priority, dataset, name), count in sorted(_label_waiting(waiting, datasets).items()):
        folds.add_metric([priority, dataset, name], count)
    yield folds
    oldest = GaugeMetricFamily(
        "datarun_oldest_waiting_seconds",
        "How long the oldest fold has waited that a worker could take.",
        labels=["priority"],
    )
    for priority in SubmissionFold.Priority.values:
        oldest.add_metric([priority], _find_oldest(waiting, datasets, priority))
    yield oldest


def _label_waiting(
    waiting: list[Waiting], datasets: dict[int, RawData]
) -> dict[tuple[str, str, str], int]:
    sizes: dict[int, int] = {}
    for group in waiting:
        sizes[group.raw_data_id] = sizes.get(group.raw_data_id, 0) + group.count
    named = sorted(sizes, key=lambda key: (-sizes[key], key))[:MOST_DATASETS]
    # Those that are always there, so that a queue that runs empty goes to 0 and not away.
    counts = {(priority, _OTHER, ""): 0 for priority in SubmissionFold.Priority.values}
    for group in waiting:
        key = (group.priority, _OTHER, "")
        if group.raw_data_id in named and group.raw_data_id in datasets:
            dataset = datasets[group.raw_data_id]
            key = (group.priority, str(dataset.pk), dataset.name)
        counts[key] = counts.get(key, 0) + group.count
    return counts


def _find_oldest(waiting: list[Waiting], datasets: dict[int, RawData], priority: str) -> float:
    ages = [
        group.oldest_seconds
        for group in waiting
        if group.priority == priority and _is_open(datasets.get(group.raw_data_id))
    ]
    return max(ages, default=0.0)


def _is_open(dataset: RawData | None) -> bool:
    return dataset is not None and dataset.state == RawData.State.READY and not dataset.paused


def _collect_running() -> Iterator[Metric]:
    # Partial indexes again, for which the phase stands in the text.
    running = SubmissionFold.objects.extra(where=[f"phase = '{Phase.RUNNING}'"])  # noqa: S610
    yield GaugeMetricFamily(
        "datarun_folds_running", "Folds that slots are running.", value=running.count()
    )
    splits = GaugeMetricFamily("datarun_splits", "Splits by phase.", labels=["phase"])
    for phase in (RawData.SplitPhase.WAITING, RawData.SplitPhase.RUNNING):
        splits.add_metric([phase], RawData.objects.filter(split_phase=phase).count())
    yield splits


def _collect_workers() -> Iterator[Metric]:
    rows = list(Worker.objects.annotate(now=Now()).order_by("name"))
    live = [row for row in rows if (row.now - row.seen_at).total_seconds() < get_live_seconds()]
    yield GaugeMetricFamily("datarun_workers_live", "Live workers.", value=len(live))
    yield GaugeMetricFamily(
        "datarun_slots_live", "Slots of live workers.", value=sum(row.slots for row in live)
    )
    seen = GaugeMetricFamily(
        "datarun_worker_seen_seconds",
        "How long ago each worker was last heard from.",
        labels=["worker"],
    )
    level = GaugeMetricFamily(
        "datarun_worker_sandbox",
        "How a live worker isolates and measures its runs; always 1.",
        labels=["worker", "level", "measured_by"],
    )
    kept = GaugeMetricFamily(
        "datarun_worker_promise",
        "Whether a live worker keeps a promise.",
        labels=["worker", "promise"],
    )
    for row in rows:
        seen.add_metric([row.name], (row.now - row.seen_at).total_seconds())
    for row in live:
        found = row.self_test or {"level": "unknown", "measured_by": "unknown"}
        level.add_metric([row.name, found["level"], found["measured_by"]], 1)
        for promise in Promise:
            kept.add_metric([row.name, promise], int(promise in (row.promises or ())))
    yield from (seen, level, kept)


def _collect_tallies() -> Iterator[Metric]:
    samples = read_samples()
    for counter in COUNTERS:
        yield _make_counter(counter, samples)
    for histogram in HISTOGRAMS:
        yield _make_histogram(histogram, samples)


def _make_counter(counter: Counter, samples: dict[Sample, float]) -> Metric:
    metric = CounterMetricFamily(counter.name, counter.text, labels=counter.labels)
    for values in _list_values(counter, counter.name, samples):
        kept = make_labels(dict(zip(counter.labels, values, strict=True)))
        metric.add_metric(values, samples.get((counter.name, kept), 0.0))
    return metric


def _make_histogram(histogram: Histogram, samples: dict[Sample, float]) -> Metric:
    metric = HistogramMetricFamily(histogram.name, histogram.text, labels=histogram.labels)
    bounds = [*map(format_bound, histogram.bounds), "+Inf"]
    for values in _list_values(histogram, f"{histogram.name}_sum", samples):
        labels = dict(zip(histogram.labels, values, strict=True))
        counts = [
            samples.get((f"{histogram.name}_bucket", make_labels({**labels, "le": bound})), 0.0)
            for bound in bounds
        ]
        metric.add_metric(
            values,
            buckets=list(zip(bounds, accumulate(counts), strict=True)),
            sum_value=samples.get((f"{histogram.name}_sum", make_labels(labels)), 0.0),
        )
    return metric


def _list_values(
    metric: Counter | Histogram, name: str, samples: dict[Sample, float]
) -> list[tuple[str, ...]]:
    """Return the labels' values that are told: those that are known, and all that were counted."""
    counted = {
        tuple(json.loads(labels)[label] for label in metric.labels)
        for each, labels in samples
        if each == name
    }
    return sorted(counted | set(metric.known))


_COLLECTORS: tuple[Callable[[], Iterator[Any]], ...] = (
    _collect_waiting,
    _collect_running,
    _collect_workers,
    _collect_tallies,
)
