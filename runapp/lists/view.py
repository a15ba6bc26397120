"""Lists: whole or in pages, filtered, what has changed only, or nothing new."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from django.utils.http import parse_etags
from rest_framework.request import Request

from runapp.http import streams
from runapp.http.view import DatarunView
from runapp.lists.feed import Feed
from runapp.lists.filters import Filters
from runapp.lists.long_poll import RETRY_AFTER_SECONDS, WATCH, parse_prefer
from runapp.lists.query import ListQuery, pick_columns, read_list_query
from runapp.rows import (
    OWNER,
    AnyColumn,
    PredictionsColumn,
    Row,
    RowReader,
    read_in_order,
)

# Who is named by DRF's own negotiation of formats, and by the views.
_OTHER_PARAMETERS = ("owner", "format")
_PACKED = "-gzip"


class ListView(DatarunView):
    """Answers a list; a subclass says of what."""

    topic: ClassVar[str]
    filters: ClassVar[Filters]
    has_changes: ClassVar[bool] = True
    has_owners: ClassVar[bool] = True
    may_turn: ClassVar[bool] = False
    may_wait: ClassVar[bool] = False

    def list_rows(self, *, owner: User | None) -> QuerySet[Any]:
        """Return what the caller sees, of one account or of all."""
        raise NotImplementedError

    def look(self, *, owner: User | None) -> tuple[Feed, Sequence[AnyColumn]]:
        """Return how far these rows have changed, and the columns there are."""
        raise NotImplementedError

    def get(self, request: Request) -> HttpResponseBase:
        query = self._read_query()
        waited = self._wait(query)
        if waited:
            query = self._read_again()
        feed, columns = self._look(query)
        # What he sees was read before: if it is more by now, no row will tell of it who goes on
        # from here.
        while feed.removed > self.scope.clock:
            query = self._read_again()
            feed, columns = self._look(query)
        query.check(feed)
        tag = self._make_tag(feed, columns)
        if (known := self._find_known(tag)) is not None:
            response = answer_not_modified(known)
        else:
            response = self._answer(query, feed, columns)
            self._finish(response, tag, columns)
        if self.has_changes and "Datarun-Cursor" not in response.headers:
            response.headers["Datarun-Cursor"] = query.make_cursor(feed).encode()
        response.headers["Cache-Control"] = "private, no-cache"
        tell_waited(response, waited)
        return response

    def _read_query(self) -> ListQuery:
        self.owner = self.get_owner() if self.has_owners else None
        return read_list_query(
            self.request.query_params,
            rows=self.list_rows(owner=self.owner),
            filters=self.filters,
            topic=f"{self.topic}:{self.get_account().pk}:{self._name_rows()}",
            has_changes=self.has_changes,
            may_turn=self.may_turn,
            known=_OTHER_PARAMETERS,
        )

    def _read_again(self) -> ListQuery:
        self.look_again()
        return self._read_query()

    def _name_rows(self) -> str:
        """Name whose rows are listed: a cursor is good for these only."""
        pk = self.get_account().pk
        owner_pk = pk if self.owner is None else self.owner.pk
        is_part = self.owner is not None and owner_pk == pk and not self.scope.is_alone
        return f"{pk} only" if is_part else str(owner_pk)

    def _look(self, query: ListQuery) -> tuple[Feed, tuple[AnyColumn, ...]]:
        feed, columns = self.look(owner=self.owner)
        tells_owner = self.has_owners and not self.scope.is_alone
        all_columns = (*columns, OWNER) if tells_owner else tuple(columns)
        return feed, pick_columns(all_columns, query.fields)

    def _wait(self, query: ListQuery) -> int | None:
        if not self.may_wait:
            return None
        return hold(self.request, lambda: self._has_news(query))

    def _has_news(self, query: ListQuery) -> bool:
        feed, columns = self._look(query)
        query.check(feed)
        if query.since is None:
            return self._find_known(self._make_tag(feed, columns)) is None
        # Of a number that many rows share, some may be left to read.
        may_have = feed.seq > query.since.seq or query.since.pk is not None
        return may_have and query.list_rows(feed).exists()

    def _make_tag(self, feed: Feed, columns: Sequence[AnyColumn]) -> str:
        """Return the ETag of the answer: everything that it depends on goes into it."""
        account = self.get_account()
        facts = (
            feed.epoch,
            feed.seq,
            account.pk,
            account.is_superuser,
            self.scope.is_operator,
            sorted((key, sorted(roles)) for key, roles in self.scope.roles.items()),
            self.request.get_full_path(),
            settings.DEFAULT_LIMITS,
            # Of what a column shows beside the row, its parameters.
            [(column.name, getattr(column.show, "args", ())) for column in columns],
        )
        return hashlib.blake2b(repr(facts).encode(), digest_size=12).hexdigest()

    def _find_known(self, tag: str) -> str | None:
        """Return the ETag of the answer that the client has, if it is still the right one."""
        return find_known(self.request, f'"{tag}"', f'"{tag}{_PACKED}"')

    def _answer(
        self, query: ListQuery, feed: Feed, columns: Sequence[AnyColumn]
    ) -> HttpResponseBase:
        reader = RowReader(columns, keys=query.keys, scope=self.scope)
        rows = query.list_rows(feed)
        if query.limit is None:
            return streams.answer_array(_read_all(query, rows, reader))
        if query.limit <= reader.piece_rows or not reader.is_heavy:
            return self._answer_page(query, feed, reader, reader.fetch(rows[: query.limit + 1]))
        return self._answer_long_page(query, feed, reader, rows)

    def _answer_page(
        self, query: ListQuery, feed: Feed, reader: RowReader, fetched: list[tuple[Any, ...]]
    ) -> HttpResponseBase:
        """Answer a page that was fetched with one row more, if there is one."""
        response = streams.answer_rows(reader.show(fetched[: query.limit]))
        self._link_next(response, query, feed, fetched)
        return response

    def _answer_long_page(
        self, query: ListQuery, feed: Feed, reader: RowReader, rows: QuerySet[Any]
    ) -> HttpResponseBase:
        """Answer a page whose rows are too heavy to be in memory together."""
        assert query.limit is not None
        keys = list(rows.values_list(*query.keys)[: query.limit + 1])
        page = [key[-1] for key in keys[: query.limit]]
        response = streams.answer_array(read_in_order(reader, query.rows, page))
        self._link_next(response, query, feed, keys)
        return response

    def _link_next(
        self,
        response: HttpResponseBase,
        query: ListQuery,
        feed: Feed,
        found: Sequence[tuple[Any, ...]],
    ) -> None:
        if query.limit is None or len(found) <= query.limit:
            return
        last = found[query.limit - 1][: len(query.keys)]
        cursor = query.make_next(feed, last).encode()
        self._link(response, cursor, "updated_since" if query.since else "cursor")
        if query.since is not None:
            response.headers["Datarun-Cursor"] = cursor

    def _link(self, response: HttpResponseBase, cursor: str, name: str) -> None:
        parameters = self.request.query_params.copy()
        parameters[name] = cursor
        if name == "cursor":
            parameters.pop("updated_since", None)
        url = self.request.build_absolute_uri(f"{self.request.path}?{parameters.urlencode()}")
        response.headers["Link"] = f'<{url}>; rel="next"'

    def _finish(self, response: HttpResponseBase, tag: str, columns: Sequence[AnyColumn]) -> None:
        # Predictions have been packed already.
        is_packed = any(isinstance(column, PredictionsColumn) for column in columns)
        accepts = "" if is_packed else self.request.headers.get("Accept-Encoding", "")
        is_packed = streams.pack(response, accepts=accepts)
        response.headers["ETag"] = f'"{tag}{_PACKED if is_packed else ""}"'


def find_known(request: Request, *etags: str) -> str | None:
    """Return that of the ETags which the client says it has, None for none (RFC 9110, 13.1.2)."""
    known = parse_etags(request.headers.get("If-None-Match", ""))
    for etag in etags:
        if "*" in known or etag in known or f"W/{etag}" in known:
            return etag
    return None


def answer_not_modified(etag: str) -> HttpResponseBase:
    """Return the answer that what the client has is what it would get."""
    response = HttpResponse(status=304, headers={"ETag": etag})
    del response.headers["Content-Type"]
    patch_vary_headers(response, ["Accept-Encoding"])
    return response


def hold(request: Request, is_new: Callable[[], bool]) -> int | None:
    """Hold a request that prefers to wait; return for how many seconds, None for one that does not.

    0 is one that would have waited where too many do.
    """
    seconds = parse_prefer(request.headers.get("Prefer", ""))
    if not seconds:
        return None
    return seconds if WATCH.wait(is_new, seconds=seconds) else 0


def tell_waited(response: HttpResponseBase, waited: int | None) -> None:
    """Tell a client what became of its wish to wait (RFC 7240, section 3)."""
    if waited is not None:
        response.headers["Preference-Applied"] = f"wait={waited}"
    if waited == 0:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)


def _read_all(query: ListQuery, rows: QuerySet[Any], reader: RowReader) -> Iterator[list[Row]]:
    """Yield all rows piece by piece, each found behind the last one; no query stays open."""
    ahead, found = rows, list[tuple[Any, ...]]()
    while ahead is rows or len(found) == reader.block_rows:
        if reader.is_heavy:
            found = list(ahead.values_list(*query.keys)[: reader.block_rows])
            yield from read_in_order(reader, query.rows, [key[-1] for key in found])
        else:
            found = reader.fetch(ahead[: reader.block_rows])
            piece = reader.show(found)
            streams.release_connection()
            yield piece
        if not found:
            return
        ahead = query.list_after(found[-1][: len(query.keys)], rows)
