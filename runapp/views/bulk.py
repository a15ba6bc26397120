"""Takes many folds in one request."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from django.contrib.auth.models import User
from django.db import DatabaseError
from django.http import FileResponse
from django.http.response import HttpResponseBase
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from runapp import dispatch, streams
from runapp.allowance import Measure, read_allowance
from runapp.exception_handler import handle_exception
from runapp.exceptions import DatarunError, InvalidInput
from runapp.models import RawData, SubmissionFold
from runapp.queries import MOST_ROWS, pick_columns, read_fields
from runapp.rows import OWNER, Row, RowReader, make_fold_columns
from runapp.selectors import count_live_slots, get_raw_data, read_circumstances
from runapp.serializers import SubmissionFoldInput
from runapp.services import bulk
from runapp.services.folds import PostedFold
from runapp.services.submissions import PostedSubmission
from runapp.views.account import tell_quotas
from runapp.views.base import DatarunView, read_body

# Answers that are larger wait on disk.
_MOST_BYTES_IN_MEMORY = 8 * 2**20


class SubmissionFoldBulk(DatarunView):
    """Post up to ten thousand folds; each is taken or refused by itself."""

    def post(self, request: Request) -> HttpResponseBase:
        bodies = _check_bodies(read_body(request))
        intake = Intake(self, names=read_fields(request.query_params))
        with ExitStack() as stack:
            spool = stack.enter_context(tempfile.SpooledTemporaryFile(_MOST_BYTES_IN_MEMORY))
            with dispatch.holding_hints() as task_id:
                for piece in streams.write_array(intake.post_all(bodies, task_id)):
                    spool.write(piece)
            stack.pop_all()  # the answer is sent, and then closed, by the server
        dispatch.burst(task_id=task_id, count=min(intake.n_posted, _count_slots()))
        spool.seek(0)
        response = FileResponse(spool, content_type="application/json")
        _tell_quotas(response, self.get_account())
        return response


class Intake:
    """Posts many folds, a batch at a time, and tells of each what came of it.

    Parameters
    ----------
    view : DatarunView
        Who asks.
    names : tuple of str or None
        The columns that are answered of each fold; None is all.

    Raises
    ------
    InvalidInput
        When there is no column of a name.
    """

    def __init__(self, view: DatarunView, *, names: tuple[str, ...] | None) -> None:
        self.n_posted = 0
        self._account, self._scope = view.get_account(), view.scope
        self._names = names
        self._shape = SubmissionFoldInput()
        self._outage: Exception | None = None
        self._turned_away: bulk.TurnedAway = {}
        self._make_reader()  # before anything is written

    def post_all(self, bodies: Sequence[Any], task_id: str) -> Iterator[list[Row]]:
        """Post folds and yield the answers to them, in order.

        Once the database or the storage is away, the rest is told just that; if nothing has been
        posted before, the error is raised.
        """
        for start in range(0, len(bodies), bulk.BATCH_FOLDS):
            results = self._post(bodies[start : start + bulk.BATCH_FOLDS])
            keys = [key for key in results if isinstance(key, int)]
            self.n_posted += len(keys)
            if self._outage is not None and not self.n_posted:
                raise self._outage
            rows = self._read(keys)
            yield [_tell(result, rows, task_id) for result in results]

    def _post(self, bodies: Sequence[Any]) -> list[bulk.Result]:
        known: dict[int, RawData] = {}
        checked = [self._check(body, known) for body in bodies]
        items = [item for item in checked if isinstance(item, bulk.Item)]
        posted = iter(self._post_items(items))
        return [next(posted) if isinstance(item, bulk.Item) else item for item in checked]

    def _post_items(self, items: Sequence[bulk.Item]) -> Sequence[bulk.Result]:
        if self._outage is not None:
            return [self._outage] * len(items)
        results = bulk.post_folds(owner=self._account, items=items, turned_away=self._turned_away)
        away = (r for r in results if isinstance(r, Exception) and bulk.is_away(r))
        self._outage = next(away, None)
        return results

    def _check(self, body: Any, known: dict[int, RawData]) -> bulk.Item | Exception:
        try:
            posted = self._shape.run_validation(body)
            if self._outage is not None:
                return self._outage
            raw_data = self._find_raw_data(posted["raw_data"], known)
        except (ValidationError, DatarunError) as error:
            return error
        except Exception as error:
            if not bulk.is_away(error):
                raise
            self._outage = error
            return error
        return bulk.Item(
            posted=PostedFold(
                databoard_sf_id=posted["databoard_sf_id"],
                train_is=posted["train_is"],
                test_is=posted["test_is"],
                priority=posted["priority"],
            ),
            submission=PostedSubmission(
                databoard_s_id=posted["databoard_s_id"], raw_data=raw_data, files=posted["files"]
            ),
            force=posted["force"],
        )

    def _find_raw_data(self, pk: int | None, known: dict[int, RawData]) -> RawData | None:
        if pk is None:
            return None
        if pk not in known:
            known[pk] = get_raw_data(scope=self._scope, pk=pk, field="raw_data")
        return known[pk]

    def _make_reader(self) -> RowReader:
        columns = make_fold_columns(read_circumstances(scope=self._scope))
        shown = columns if self._scope.is_alone else (*columns, OWNER)
        return RowReader(pick_columns(shown, self._names))

    def _read(self, keys: list[int]) -> dict[int, Row]:
        """Return the rows of folds by their keys; none when the database has just gone away."""
        if not keys:
            return {}
        try:
            reader = self._make_reader()
            fetched = reader.fetch(SubmissionFold.objects.filter(pk__in=keys))
            return dict(zip(map(reader.get_pk, fetched), reader.show(fetched), strict=True))
        except Exception as error:
            if not bulk.is_away(error):
                raise
            self._outage = error
            return {}


def _tell_quotas(response: HttpResponseBase, owner: User) -> None:
    measures = (Measure.FOLDS_PER_DAY, Measure.WAITING_FOLDS, Measure.STORED_BYTES)
    try:
        tell_quotas(response, *measures, owner=owner, allowance=read_allowance(owner=owner))
    except Exception as error:
        # What was posted is told all the same.
        if not bulk.is_away(error):
            raise


def _count_slots() -> int:
    """Return how many hints are worth ringing: one for each slot, if that can be found out."""
    try:
        return max(count_live_slots(), 1)
    except DatabaseError:
        return 1


def _check_bodies(data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise InvalidInput("Expected an array of folds.", code="not_a_list")
    if len(data) > MOST_ROWS:
        raise InvalidInput(f"At most {MOST_ROWS} folds are allowed at a time.", code="too_many")
    return data


def _tell(result: bulk.Result, rows: dict[int, Row], task_id: str) -> Row:
    if isinstance(result, int):
        # Without its row when that cannot be read, or has been deleted with its dataset.
        return {"status": 201, "body": {**rows.get(result, {}), "task_id": task_id}}
    refusal = handle_exception(result, {})
    assert refusal is not None  # nothing else is kept for an answer
    return {"status": refusal.status_code, "body": refusal.data}
