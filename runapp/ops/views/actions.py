"""What is done to folds: asked first, then told for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_protect

from runapp.accounts.access import Scope
from runapp.common.transitions import Phase
from runapp.models import MAX_CLIENT_ID, SubmissionFold
from runapp.ops.actions import FoldAction, Seen, carry_out
from runapp.ops.fold_rows import Line, read_lines
from runapp.ops.paging import ROWS
from runapp.ops.views.base import by_form, find_way_back, for_operators, read_action, show
from runapp.ops.views.bulk_actions import confirm_bulk_action

_MOST_ATTEMPT = 2**31 - 1


@dataclass(frozen=True)
class Result:
    """What became of one fold; `line` is None when it is no more."""

    line: Line | None
    is_done: bool
    sentence: str


@csrf_protect
@for_operators
@by_form
def ask_to_confirm(request: HttpRequest, scope: Scope) -> HttpResponse:
    """Show what would be done, and to which folds."""
    action = read_action(request)
    if request.POST.get("all"):
        return confirm_bulk_action(request, action)
    return confirm(request, action, _read_seen(request), back=find_way_back(request))


def confirm(
    request: HttpRequest, action: FoldAction, ticked: Sequence[Seen], *, back: str
) -> HttpResponse:
    """Return the page that asks whether to do something to folds.

    Parameters
    ----------
    ticked : sequence of Seen
        The folds as they were shown.
    back : str
        The path from which they were chosen.
    """
    lines = _find_lines(ticked)
    pairs = [(lines[seen.pk], seen) for seen in ticked if seen.pk in lines]
    context = {"here": "folds", "deed": action, "lines": pairs, "back": back}
    return show(request, "ops/confirm.html", context)


@csrf_protect
@for_operators
@by_form
def steer_folds(request: HttpRequest, scope: Scope) -> HttpResponse:
    """Do it, and show what became of each fold."""
    action = read_action(request)
    told = [(seen, carry_out(action=action, seen=seen)) for seen in _read_seen(request)]
    lines = _find_lines([seen for seen, _ in told])
    results = [Result(lines.get(seen.pk), answer.is_done, answer.sentence) for seen, answer in told]
    context = {
        "here": "folds",
        "deed": action,
        "results": results,
        "n_done": sum(result.is_done for result in results),
        "back": find_way_back(request),
    }
    return show(request, "ops/done.html", context)


def _find_lines(ticked: Sequence[Seen]) -> dict[int, Line]:
    rows = SubmissionFold.objects.filter(pk__in=[seen.pk for seen in ticked])
    return {line.id: line for line in read_lines(rows, most=ROWS)}


def _read_seen(request: HttpRequest) -> list[Seen]:
    """Return the folds that a form names as they were shown; what is no fold is passed over."""
    found = {seen.pk: seen for seen in _parse(request.POST.getlist("fold"))}
    return list(found.values())[:ROWS]


def _parse(texts: list[str]) -> Iterator[Seen]:
    for text in texts:
        with suppress(ValueError):
            pk, attempt, phase, queued_at = text.split(":", 3)
            seen = Seen(int(pk), int(attempt), Phase(phase), datetime.fromisoformat(queued_at))
            is_possible = 0 < seen.pk <= MAX_CLIENT_ID and 0 <= seen.attempt <= _MOST_ATTEMPT
            if is_possible and seen.queued_at.tzinfo is not None:
                yield seen
