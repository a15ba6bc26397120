"""Rows as clients see them: picked columns, read without models, piece by piece.

A row is made of what `values_list` gives: a model and a serializer for each would cost ten times as
much. What a list answers and what a single row does is defined here, once.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from django.db.models import QuerySet

from runapp.accounts.access import ANYBODY, READERS, Roles, Scope
from runapp.common import wire
from runapp.http.streams import release_connection
from runapp.models import Predictions, RawData, Submission
from runapp.scheduling.results import read_predictions
from runapp.scheduling.waiting import Circumstances
from runapp.storage.configured import get_storage

Row = dict[str, Any]
Rows = QuerySet[Any]

# Most columns together have some hundred bytes.
PIECE_ROWS = 1000
# A log has up to some 100 kB; indices and predictions grow with the dataset.
PIECE_ROWS_OF_HEAVY_COLUMNS = 20
_HEAVY = ("log_messages", "train_is", "test_is")
MOST_ROWS = 10_000


@dataclass(frozen=True)
class Readers:
    """Who is shown a column, beside the owner of the row; to others who see the row it is null.

    Parameters
    ----------
    roles : frozenset of str
        On the row's dataset.
    sources : tuple of str
        The fields of the dataset's key and of the owner's.
    """

    roles: Roles
    sources: tuple[str, str] = ("raw_data_id", "owner_id")


# Results, and what code prints, which may be anything that it has read.
_READERS_OF_FOLD = Readers(READERS)
# What went wrong in a split may quote what it was about.
_READERS_OF_DATASET = Readers(READERS, ("pk", "owner_id"))
_USERS_OF_DATASET = Readers(ANYBODY, ("pk", "owner_id"))


@dataclass(frozen=True)
class Column:
    """A column of a list.

    Parameters
    ----------
    name : str
        As clients see it.
    sources : tuple of str, optional
        What it is made of, as `values_list` takes it; by default the field of its name.
    show : callable, optional
        Makes of the sources' values what clients see; None is the only one as it is.
    readers : Readers or None, optional
        To whom it is shown; None is to all who see the row.
    """

    name: str
    sources: tuple[str, ...] = ()
    show: Callable[..., Any] | None = None
    readers: Readers | None = None

    def list_sources(self) -> tuple[str, ...]:
        return self.sources or (self.name,)


@dataclass(frozen=True)
class PredictionsColumn:
    """One of the three columns of a fold's predictions of one part; they lie in another table."""

    name: str
    part: str
    show: Callable[[Predictions, str], Any]
    readers: Readers | None = _READERS_OF_FOLD

    def list_sources(self) -> tuple[str, ...]:
        return ("pk", "raw_data__storage_key")


AnyColumn = Column | PredictionsColumn


def show_packed(packed: bytes | memoryview) -> str:
    """Return indices as clients see them."""
    # A row keeps indices in the wire form less its base64.
    return base64.b64encode(packed).decode()


def _show_limits(limits: Mapping[str, Any]) -> Row:
    return RawData(limits=limits).limits_in_force


def _show_bin_path(storage_key: str) -> str:
    return RawData(storage_key=storage_key).files_path


def _show_code_path(storage_key: str, digest: str) -> str:
    return Submission(raw_data=RawData(storage_key=storage_key), hash_files=digest).files_path


def _show_content(predictions: Predictions, storage_key: str) -> str:
    bin = get_storage().get_bin(storage_key)
    content = read_predictions(predictions, bin=bin)
    return wire.encode_bytes(content, level=wire.FAST_LEVEL)


def _make_predictions_columns() -> Iterator[PredictionsColumn]:
    for part in Predictions.Part.values:
        name = f"{part}_predictions"
        yield PredictionsColumn(name, part, _show_content)
        yield PredictionsColumn(f"{name}_shape", part, lambda predictions, key: predictions.shape)
        yield PredictionsColumn(f"{name}_dtype", part, lambda predictions, key: "float64")


OWNER = Column("owner", ("owner__username",))
_DATABOARD_S = Column("databoard_s", ("submission__databoard_s_id",))
_FIGURES = (
    Column("error_code"),
    Column("log_messages", readers=_READERS_OF_FOLD),
    *map(
        Column,
        (
            "train_time",
            "validation_time",
            "test_time",
            "train_cpu_time",
            "test_cpu_time",
            "train_memory",
            "test_memory",
        ),
    ),
)
_PREDICTIONS = tuple(_make_predictions_columns())

LIGHT_COLUMNS: tuple[AnyColumn, ...] = (
    Column("databoard_sf_id"),
    _DATABOARD_S,
    Column("state"),
    Column("new"),
)
PREDICTIONS_ROW_COLUMNS: tuple[AnyColumn, ...] = (
    Column("databoard_sf_id"),
    _DATABOARD_S,
    Column("state"),
    *_FIGURES,
    *_PREDICTIONS,
)
SUBMISSION_COLUMNS: tuple[AnyColumn, ...] = (
    Column("databoard_s_id"),
    Column("raw_data", ("raw_data_id",)),
    Column("files_path", ("raw_data__storage_key", "hash_files"), _show_code_path),
    Column("hash_files"),
    Column("files", ("files",), sorted),
)
RAW_DATA_COLUMNS: tuple[AnyColumn, ...] = (
    *(Column(name) for name in ("id", "name")),
    Column("files_path", ("storage_key",), _show_bin_path),
    *(
        Column(name)
        for name in (
            "workflow_elements",
            "target_column",
            "state",
            "error_code",
        )
    ),
    Column("log_messages", readers=_READERS_OF_DATASET),
    Column("classes", readers=_USERS_OF_DATASET),
    Column("n_train"),
    Column("n_test"),
    Column("limits", ("limits",), _show_limits),
    *(Column(name) for name in ("paused", "fail_fast", "created_at")),
)

AUDIT_COLUMNS: tuple[AnyColumn, ...] = (
    *(Column(name) for name in ("id", "at", "actor_id", "actor", "via", "address")),
    *(Column(name) for name in ("action", "kind", "target", "owner_id", "owner")),
    Column("raw_data", ("raw_data_id",)),
    Column("facts"),
)


def make_fold_columns(circumstances: Circumstances) -> tuple[AnyColumn, ...]:
    """Return all columns of folds, as things stand with those that wait."""
    return (
        Column("databoard_sf_id"),
        _DATABOARD_S,
        Column("train_is", ("train_is",), show_packed, readers=_READERS_OF_FOLD),
        Column("test_is", ("test_is",), show_packed, readers=_READERS_OF_FOLD),
        Column("priority"),
        Column("state"),
        *_FIGURES,
        *(Column(name) for name in ("new", "attempt", "measured_by")),
        *(Column(name) for name in ("queued_at", "started_at", "finished_at")),
        Column(
            "waiting_because",
            ("phase", "raw_data__state", "raw_data__paused", "owner_id"),
            partial(_explain_waiting, circumstances),
        ),
        *_PREDICTIONS,
    )


def _explain_waiting(
    circumstances: Circumstances, phase: str, raw_data_state: str, is_paused: bool, owner_id: int
) -> str | None:
    return circumstances.explain_waiting(
        phase=phase, raw_data_state=raw_data_state, is_paused=is_paused, owner_id=owner_id
    )


class RowReader:
    """Reads picked columns of a table's rows.

    Parameters
    ----------
    columns : sequence of columns
        What each row shows, in this order.
    keys : tuple of str
        Fields that the caller wants to know of each row besides.
    scope : Scope, optional
        Who reads. By default somebody who may read all that he sees.
    """

    def __init__(
        self,
        columns: Sequence[AnyColumn],
        *,
        keys: tuple[str, ...] = ("pk",),
        scope: Scope | None = None,
    ) -> None:
        self._columns = columns
        # Only operators, and who may submit on a dataset, see rows that they may not read whole.
        is_partial = scope is not None and (scope.is_operator or bool(scope.roles))
        self._scope = scope if is_partial else None
        restricted = [c.readers.sources for c in columns if c.readers] if is_partial else []
        listed = [column.list_sources() for column in columns]
        self._sources = list(dict.fromkeys(chain(keys, *listed, *restricted)))
        self._places = [tuple(map(self._sources.index, sources)) for sources in listed]
        self._place_of_pk = self._sources.index("pk")
        self.has_predictions = any(isinstance(column, PredictionsColumn) for column in columns)
        self.is_heavy = self.has_predictions or any(name in self._sources for name in _HEAVY)

    @property
    def block_rows(self) -> int:
        """How many rows to find at a time."""
        return PIECE_ROWS

    @property
    def piece_rows(self) -> int:
        """How many rows to have in memory at a time."""
        return PIECE_ROWS_OF_HEAVY_COLUMNS if self.is_heavy else PIECE_ROWS

    def fetch(self, rows: Rows) -> list[tuple[Any, ...]]:
        """Return the sources of rows, their keys first; no predictions are read."""
        return list(rows.values_list(*self._sources))

    def show(self, fetched: list[tuple[Any, ...]]) -> list[Row]:
        """Return fetched rows as clients see them; predictions are read now."""
        if not self.has_predictions:
            return [self._show(values, {}) for values in fetched]
        shown = [values for values in fetched if not self._is_hidden(_READERS_OF_FOLD, values)]
        made = _read_predictions([self.get_pk(values) for values in shown])
        return [self._show(values, made.get(self.get_pk(values), {})) for values in fetched]

    def get_pk(self, values: tuple[Any, ...]) -> int:
        """Return the key of a fetched row."""
        pk: int = values[self._place_of_pk]
        return pk

    def _show(self, values: tuple[Any, ...], made: Mapping[str, Predictions]) -> Row:
        row: Row = {}
        for column, places in zip(self._columns, self._places, strict=True):
            if self._is_hidden(column.readers, values):
                row[column.name] = None
            elif isinstance(column, PredictionsColumn):
                predictions = made.get(column.part)
                row[column.name] = predictions and column.show(predictions, values[places[1]])
            elif column.show is None:
                row[column.name] = values[places[0]]
            else:
                row[column.name] = column.show(*(values[place] for place in places))
        return row

    def _is_hidden(self, readers: Readers | None, values: tuple[Any, ...]) -> bool:
        if self._scope is None or readers is None:
            return False
        raw_data_id, owner_id = (values[self._sources.index(name)] for name in readers.sources)
        return not self._scope.may(readers.roles, raw_data_id=raw_data_id, owner_id=owner_id)


def _read_predictions(folds: list[int]) -> dict[int, dict[str, Predictions]]:
    found: dict[int, dict[str, Predictions]] = {}
    for predictions in Predictions.objects.filter(fold__in=folds):
        found.setdefault(predictions.fold_id, {})[predictions.part] = predictions
    return found


def read_in_order(reader: RowReader, rows: Rows, keys: Sequence[int]) -> Iterator[list[Row]]:
    """Yield those of the rows that have the keys, in their order, piece by piece."""
    for start in range(0, len(keys), reader.piece_rows):
        some = keys[start : start + reader.piece_rows]
        place = {key: number for number, key in enumerate(some)}
        fetched = reader.fetch(rows.filter(pk__in=some))
        piece = reader.show(sorted(fetched, key=lambda values: place[reader.get_pk(values)]))
        release_connection()
        yield piece
