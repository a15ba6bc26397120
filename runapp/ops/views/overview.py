"""The state of everything on one page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from runapp.accounts.access import Scope
from runapp.ops.overview import DATASETS_ON_PAGE, STANDINGS, list_datasets, read_totals
from runapp.ops.throughput import read_throughput
from runapp.ops.views.base import for_operators, show_live
from runapp.ops.workers import Entry, list_entries


@require_safe
@for_operators
def show_overview(request: HttpRequest, scope: Scope) -> HttpResponse:
    """Show how much waits, what runs where, and what has lately ended."""
    return show_live(request, "overview", _read)


def _read() -> Mapping[str, Any]:
    entries = list_entries()
    datasets = list_datasets()
    totals = read_totals()
    return {
        "here": "overview",
        "totals": totals,
        "throughput": read_throughput(now=totals.now),
        "standings": STANDINGS,
        "datasets": datasets[:DATASETS_ON_PAGE],
        "has_more": len(datasets) > DATASETS_ON_PAGE,
        "workers": entries,
        "slots": _count_slots(entries),
    }


def _count_slots(entries: list[Entry]) -> dict[str, int]:
    live = [entry for entry in entries if entry.is_live]
    return {
        "busy": sum(len(entry.jobs) for entry in live),
        "idle": sum(entry.idle for entry in live),
        "lost": sum(entry.slots for entry in entries if not entry.is_live),
    }
