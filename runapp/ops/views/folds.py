"""The list of folds, and one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from runapp.accounts.access import Scope
from runapp.common.error_codes import ERROR_CODES
from runapp.common.exceptions import NotFound
from runapp.models import SubmissionFold
from runapp.ops.fold_page import read_fold_page
from runapp.ops.fold_rows import read_lines
from runapp.ops.paging import ROWS, SORTS, Place, cut, sort
from runapp.ops.search import PHASES, PRIORITIES, STATES, Search
from runapp.ops.views.base import for_operators, show, show_live
from runapp.scheduling.position import find_position

CHOICES = {
    "state": [*STATES, *PHASES],
    "error_code": ERROR_CODES,
    "priority": PRIORITIES,
}


@require_safe
@for_operators
def show_folds(request: HttpRequest, scope: Scope) -> HttpResponse:
    """Show the folds that fit what is searched for, a page of them."""
    return show_live(request, "folds", lambda: _read(request))


@require_safe
@for_operators
def show_fold(request: HttpRequest, scope: Scope, pk: int) -> HttpResponse:
    """Show all that is known of one fold."""
    return show_live(request, "fold", lambda: _tell(pk, scope))


@require_safe
@for_operators
def show_place(request: HttpRequest, scope: Scope, pk: int) -> HttpResponse:
    """Show where a waiting fold stands in the queue, as a part of its page."""
    rows = SubmissionFold.objects.select_related("submission__raw_data", "owner")
    fold = rows.filter(pk=pk).first()
    if fold is None:
        raise NotFound("There is no such fold.")
    return show(request, "ops/parts/place.html", {"position": find_position(fold)})


def _tell(pk: int, scope: Scope) -> Mapping[str, Any]:
    return {"here": "folds", "story": read_fold_page(pk=pk, scope=scope)}


def read_search(query: Mapping[str, str]) -> Search:
    """Return what is searched for."""
    names = [field.name for field in fields(Search)]
    return Search(**{name: query.get(name, "").strip() for name in names})


def _read(request: HttpRequest) -> dict[str, Any]:
    search = read_search(request.GET)
    by = request.GET.get("sort", "-id")
    place = Place.parse(request.GET.get("after", ""))
    found = read_lines(cut(sort(search.find(), by), by, place), most=ROWS + 1)
    lines, has_more = found[:ROWS], len(found) > ROWS
    return {
        "here": "folds",
        "search": search,
        "sought": asdict(search),
        "filters": {name: getattr(search, name) for name in CHOICES},
        "choices": CHOICES,
        "by": by if by.lstrip("-") in SORTS else "-id",
        "lines": lines,
        "hints": [] if lines else search.explain() or ["No folds match."],
        "is_first": place is None,
        "next": _change(request, after=str(Place.of(lines[-1], by))) if has_more else None,
        "first": _change(request, after=""),
        "sorts": {name: _change(request, sort=_turn(name, by), after="") for name in SORTS},
    }


def _turn(name: str, by: str) -> str:
    """Return the order that a click on a column's head asks for: the newest first, then turned."""
    return name if by == f"-{name}" else f"-{name}"


def _change(request: HttpRequest, **changes: str) -> str:
    """Return this page's query with some changes."""
    query = request.GET.copy()
    for name, value in changes.items():
        query.pop(name, None)
        if value:
            query[name] = value
    return "?" + query.urlencode()
