"""The list of datasets, and one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_safe

from runapp.accounts.access import Scope
from runapp.accounts.visible_rows import get_raw_data
from runapp.datasets.raw_data import change_raw_data
from runapp.ops.dataset_page import read_dataset_page
from runapp.ops.overview import DATASETS_ON_PAGE, STANDINGS, list_datasets
from runapp.ops.paging import Place
from runapp.ops.views.base import by_form, for_operators, show_live


@require_safe
@for_operators
def show_datasets(request: HttpRequest, scope: Scope) -> HttpResponse:
    """Show the datasets, a page of them, the newest first."""
    place = Place.parse(request.GET.get("before", ""))
    return show_live(request, "datasets", lambda: _list(place))


@require_safe
@for_operators
def show_dataset(request: HttpRequest, scope: Scope, pk: int) -> HttpResponse:
    """Show one dataset and its folds."""
    place = Place.parse(request.GET.get("before", ""))
    return show_live(request, "dataset", lambda: _tell(pk, place))


@csrf_protect
@for_operators
@by_form
def pause_dataset(request: HttpRequest, scope: Scope, pk: int) -> HttpResponse:
    """Have the waiting folds of a dataset stay where they are, or go on."""
    raw_data = get_raw_data(scope=scope, pk=pk)
    if scope.may_steer(raw_data):
        change_raw_data(raw_data=raw_data, paused=request.POST.get("paused") == "yes")
    return redirect("ops:dataset", pk=pk)


def _list(place: Place | None) -> Mapping[str, Any]:
    datasets = list_datasets(before=place.pk if place else None)
    shown = datasets[:DATASETS_ON_PAGE]
    return {
        "here": "datasets",
        "datasets": shown,
        "standings": STANDINGS,
        "is_further": place is not None,
        "next": shown[-1].id if len(datasets) > DATASETS_ON_PAGE else None,
    }


def _tell(pk: int, place: Place | None) -> Mapping[str, Any]:
    story = read_dataset_page(pk=pk, before=place.pk if place else None)
    return {"here": "datasets", "story": story, "standings": STANDINGS}
