"""What is done to all folds that fit a search: asked first, then done by rounds, each told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_protect

from runapp.accounts.access import Scope
from runapp.models import MAX_CLIENT_ID, SubmissionFold
from runapp.ops.actions import FoldAction
from runapp.ops.bulk_actions import (
    ROUND_FOLDS,
    BulkAction,
    Refusal,
    describe_search,
    do_round,
    foresee,
    group_refusals,
    resume,
)
from runapp.ops.fold_rows import Line, read_lines
from runapp.ops.paging import ROWS
from runapp.ops.search import Search
from runapp.ops.views.base import by_form, find_way_back, for_operators, read_action, show
from runapp.ops.views.folds import read_search

FEW = 10
_NAMES = [field.name for field in fields(Search)]
_NOT_WHOLE = "The form is incomplete. Go back and try again."


@dataclass(frozen=True)
class Group:
    """Folds that were refused by one sentence; not all of many are shown."""

    sentence: str
    count: int
    lines: list[Line]


def confirm_bulk_action(request: HttpRequest, action: FoldAction) -> HttpResponse:
    """Return the page that asks whether to do something to all folds that fit a search."""
    if not _is_whole(request.POST):
        return _show_hints(request, action, [_NOT_WHOLE])
    search = read_search(request.POST)
    prospect = foresee(action=action, search=search)
    if not prospect.fitting.number:
        return _show_hints(request, action, search.explain() or ["No folds match."])
    context = {
        **_tell(request, prospect.sweep),
        "prospect": prospect,
        "most": ROUND_FOLDS,
        "lines": read_lines(prospect.folds, most=FEW) if prospect.able.number else [],
    }
    return show(request, "ops/sweep.html", context)


@csrf_protect
@for_operators
@by_form
def sweep_folds(request: HttpRequest, scope: Scope) -> HttpResponse:
    """Do it to some of the folds that are left, and show what became of them."""
    action = read_action(request)
    sweep = _read_sweep(request.POST, action)
    if sweep is None:
        return _show_hints(request, action, [_NOT_WHOLE])
    done = do_round(sweep=sweep)
    if done.is_empty and (hints := sweep.search.explain()):
        return _show_hints(request, action, hints)
    context = {
        **_tell(request, done.rest),
        "done": done,
        "groups": list(_group(done.refusals)),
        "left": done.rest.count(),
    }
    return show(request, "ops/round.html", context)


def _show_hints(request: HttpRequest, action: FoldAction, hints: list[str]) -> HttpResponse:
    context = {"here": "folds", "deed": action, "hints": hints, "back": find_way_back(request)}
    return show(request, "ops/sweep.html", context)


def _tell(request: HttpRequest, sweep: BulkAction) -> Mapping[str, Any]:
    """Return what is shown of a sweep, and what the next form has to tell of it."""
    return {
        "here": "folds",
        "deed": sweep.action,
        "words": describe_search(sweep.search),
        "fields": {
            **asdict(sweep.search),
            "moment": sweep.moment.isoformat(),
            "below": str(sweep.below),
        },
        "back": find_way_back(request),
    }


def _group(refusals: tuple[Refusal, ...]) -> Iterator[Group]:
    """Yield the refusals of each sentence, with so many folds in all as a page has."""
    shown = [refusal.pk for refusal in refusals[:ROWS]]
    lines = {
        line.id: line for line in read_lines(SubmissionFold.objects.filter(pk__in=shown), most=ROWS)
    }
    for sentence, keys in group_refusals(refusals).items():
        yield Group(sentence, len(keys), [lines[key] for key in keys if key in lines])


def _read_sweep(form: Mapping[str, str], action: FoldAction) -> BulkAction | None:
    """Return the sweep that a form tells of; None if it does not tell all of it."""
    moment, below = _parse_moment(form.get("moment", "")), _parse_key(form.get("below", ""))
    if moment is None or below is None or not _is_whole(form):
        return None
    return resume(action=action, search=read_search(form), moment=moment, below=below)


def _is_whole(form: Mapping[str, str]) -> bool:
    # A field that was lost on the way would have more folds fit than were asked for.
    return all(name in form for name in _NAMES)


def _parse_moment(text: str) -> datetime | None:
    # The first and the last day of all are none everywhere.
    with suppress(ValueError, OverflowError):
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    return None


def _parse_key(text: str) -> int | None:
    with suppress(ValueError):
        return key if 0 < (key := int(text)) <= MAX_CLIENT_ID else None
    return None
