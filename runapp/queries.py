"""What a client asks of a list: filters, columns, pages, changes; read from the query string."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Q, QuerySet
from django.http import QueryDict
from rest_framework.exceptions import ErrorDetail, ValidationError

from runapp.cursors import Cursor, decode_cursor
from runapp.exceptions import Gone, InvalidInput
from runapp.filters import Filters
from runapp.rows import AnyColumn
from runapp.selectors import Feed

MOST_ROWS = 10_000
# A client that knows nothing yet.
_START = "0"
# Of a text that is refused, so much is repeated.
_SHOWN_CHARACTERS = 40


@dataclass(frozen=True)
class ListQuery:
    """What is asked of a list.

    Parameters
    ----------
    rows : QuerySet
        What the caller may see and has not filtered out; in no order yet.
    topic : str
        What is listed and to whom: cursors are good for that only.
    fields : tuple of str or None
        Names of the columns; None is all.
    limit : int or None
        The most rows of a page; None is all there are.
    page : Cursor or None
        Where the page begins.
    since : Cursor or None
        Only what has changed after it, in the order of changes.
    newest_first : bool
        Whether the order by age is turned round.
    """

    rows: QuerySet[Any]
    topic: str
    fields: tuple[str, ...] | None
    limit: int | None
    page: Cursor | None
    since: Cursor | None
    newest_first: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """By which the rows are ordered."""
        return ("change_seq", "pk") if self.since else ("pk",)

    def check(self, feed: Feed) -> None:
        """Check that a cursor still leads on.

        Raises
        ------
        Gone
            When rows were removed since, or the numbers begin anew.
        """
        cursor = self.since or self.page
        if cursor is None:
            return
        is_known = cursor.epoch == feed.epoch and cursor.seq <= feed.clock
        if not is_known or (self.since is not None and cursor.seq < feed.removed):
            raise Gone(
                "This cursor is no longer valid; read the list from its start.",
                field="updated_since" if self.since else "cursor",
            )

    def list_rows(self, feed: Feed) -> QuerySet[Any]:
        """Return the rows asked for, in order; changes later than the feed's are left out."""
        if self.since is not None:
            changed = self.rows.filter(change_seq__lte=feed.seq)
            return self.list_after((self.since.seq, self.since.pk), changed)
        after = None if self.page is None else self.page.after
        return self.list_after((after,), self.rows)

    def list_after(self, place: tuple[int | None, ...], rows: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows behind a place, the values of `keys` of the last row read."""
        if self.since is None:
            (after,) = place
            if self.newest_first:
                return (rows if after is None else rows.filter(pk__lt=after)).order_by("-pk")
            return (rows if after is None else rows.filter(pk__gt=after)).order_by("pk")
        seq, pk = place
        if pk is None:
            behind = Q(change_seq__gt=seq)
        else:
            # The first condition is the one that an index is read by.
            behind = Q(change_seq__gte=seq) & (Q(change_seq__gt=seq) | Q(pk__gt=pk))
        return rows.filter(behind).order_by("change_seq", "pk")

    def make_cursor(self, feed: Feed) -> Cursor:
        """Return what the client knows once it has read all that was asked for."""
        # Of a list read in pages, what has changed since the first one is still to be read.
        seq = self.page.seq if self.page is not None else feed.seq
        return Cursor(self.topic, feed.epoch, seq)

    def make_next(self, feed: Feed, place: tuple[Any, ...]) -> Cursor:
        """Return where to go on behind the last row of a page."""
        if self.since is not None:
            seq, pk = place
            return Cursor(self.topic, feed.epoch, seq, pk)
        return Cursor(self.topic, feed.epoch, self.make_cursor(feed).seq, after=place[-1])


def read_list_query(
    parameters: QueryDict,
    *,
    rows: QuerySet[Any],
    filters: Filters,
    topic: str,
    has_changes: bool,
    may_turn: bool = False,
    known: Sequence[str] = (),
) -> ListQuery:
    """Read the query string of a list.

    Parameters
    ----------
    parameters : QueryDict
        The query string.
    rows : QuerySet
        What the caller may see.
    filters : type
        The list's filters.
    topic : str
        What is listed, and to whom.
    has_changes : bool
        Whether `updated_since` may be asked.
    may_turn : bool, optional
        Whether `newest_first` may be asked.
    known : sequence of str, optional
        Other parameters, which somebody else reads.

    Raises
    ------
    ValidationError, InvalidInput
        When a parameter is unknown or holds what it may not.
    """
    optional = {"updated_since": has_changes, "newest_first": may_turn}
    own = ("limit", "cursor", "fields", *(name for name, is_known in optional.items() if is_known))
    _check_names(parameters, {*own, *known, *filters.base_filters})
    narrowed = filters(data=parameters, queryset=rows)
    if not narrowed.is_valid():
        raise ValidationError(_translate(narrowed.errors.get_json_data()))
    newest_first = may_turn and _read_flag(parameters, "newest_first")
    topic = f"{topic}:newest" if newest_first else topic
    page = _read_cursor(parameters, "cursor", topic)
    since = _read_cursor(parameters, "updated_since", topic)
    if page is not None and since is not None:
        raise InvalidInput("Cannot be combined with updated_since.", field="cursor")
    return ListQuery(
        rows=narrowed.qs,
        topic=topic,
        fields=read_fields(parameters),
        limit=_read_limit(parameters),
        page=page,
        since=since,
        newest_first=newest_first,
    )


def read_fields(parameters: QueryDict) -> tuple[str, ...] | None:
    """Return the names of the columns that are asked for, None for all; they may not exist."""
    text = parameters.get("fields")
    if text is None:
        return None
    return tuple(dict.fromkeys(name.strip() for name in text.split(",")))


def pick_columns(
    columns: Sequence[AnyColumn], names: tuple[str, ...] | None
) -> tuple[AnyColumn, ...]:
    """Return the named columns, or all.

    Raises
    ------
    InvalidInput
        When there is none of a name.
    """
    by_name = {column.name: column for column in columns}
    unknown = [name for name in names or () if name not in by_name]
    if unknown:
        raise InvalidInput(
            f"Unknown field {unknown[0][:_SHOWN_CHARACTERS]!r} (use any of: {', '.join(by_name)}).",
            field="fields",
            code="unknown",
        )
    return tuple(by_name[name] for name in (by_name if names is None else names))


def _check_names(parameters: QueryDict, known: set[str]) -> None:
    for name in parameters:
        if name not in known:
            shown = name[:_SHOWN_CHARACTERS]
            raise InvalidInput(
                f"Unknown parameter (use any of: {', '.join(sorted(known))}).",
                field=shown,
                code="unknown",
            )


def _translate(errors: dict[str, list[dict[str, str]]]) -> dict[str, list[ErrorDetail]]:
    return {
        name: [ErrorDetail(error["message"], error["code"] or "invalid") for error in found]
        for name, found in errors.items()
    }


def _read_cursor(parameters: QueryDict, name: str, topic: str) -> Cursor | None:
    text = parameters.get(name)
    if text is None or (name == "updated_since" and text == _START):
        return None
    cursor = decode_cursor(text, topic=topic, field=name)
    # Each kind leads on by the parameter that it was given for.
    if (cursor.after is None) == (name == "cursor"):
        raise InvalidInput(
            "This is the cursor of a page: send it as `cursor`."
            if cursor.after is not None
            else "This is a cursor of changes: send it as `updated_since`.",
            field=name,
            code="bad_cursor",
        )
    return cursor


def _read_flag(parameters: QueryDict, name: str) -> bool:
    text = parameters.get(name, "")
    if text not in ("", "true", "false"):
        raise InvalidInput("Must be true or false.", field=name, code="unknown")
    return text == "true"


def _read_limit(parameters: QueryDict) -> int | None:
    text = parameters.get("limit")
    if text is None:
        return None
    # Its length first: a number of a million digits takes its time.
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(MOST_ROWS))
    if not is_number or not 1 <= int(text) <= MOST_ROWS:
        raise InvalidInput(f"Must be a whole number from 1 to {MOST_ROWS}.", field="limit")
    return int(text)
