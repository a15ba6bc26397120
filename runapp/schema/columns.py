"""The shape of every column of `rows.py`, and the rows that they make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from runapp.events import Action, Kind, Via
from runapp.models import RawData
from runapp.rows import (
    AUDIT_COLUMNS,
    LIGHT_COLUMNS,
    OWNER,
    PREDICTIONS_ROW_COLUMNS,
    RAW_DATA_COLUMNS,
    SUBMISSION_COLUMNS,
    AnyColumn,
    make_fold_columns,
)
from runapp.schema.types import (
    COUNT,
    FIGURE,
    FLAG,
    FLOATS,
    FOLD_STATE,
    ID,
    INDICES,
    MOMENT,
    PRIORITY,
    TEXT,
    Schema,
    allow_null,
    list_of,
    refer,
    tell,
)
from runapp.selectors import Circumstances

Shapes = Mapping[str, Schema]

_HIDDEN = "Null for operators."

# More may be added: a client is to expect codes that it does not know.
FOLD_CODES = (
    "submission_error",
    "bad_predictions",
    "wall_limit",
    "cpu_limit",
    "memory_limit",
    "output_limit",
    "killed",
    "cancelled",
    "split_error",
    "worker_lost",
    "internal_error",
)
SPLIT_CODES = (
    "split_error",
    "wall_limit",
    "cpu_limit",
    "memory_limit",
    "output_limit",
    "worker_lost",
)
REASONS = (
    "raw_data_not_split",
    "no_live_worker",
    "no_fit_worker",
    "paused",
    "account_cap",
    "account_disabled",
    "behind_others",
)


def _code(known: Sequence[str], description: str) -> Schema:
    return {**tell(allow_null(TEXT), description), "x-extensible-enum": list(known)}


def _seconds(description: str) -> Schema:
    return tell(allow_null(FIGURE), f"Seconds: {description}. Null if not measured.")


def _memory(description: str) -> Schema:
    return tell(allow_null(FIGURE), f"Units of 1024 bytes: {description}. Null if not measured.")


def _predictions(part: str, rows: str) -> dict[str, Schema]:
    name = f"{part}_predictions"
    content = (
        f"Predictions of every row of the {rows} part, float64 in C order; null unless TESTED."
    )
    shape = {"type": ["array", "null"], "items": COUNT, "minItems": 1, "maxItems": 2}
    return {
        name: tell(allow_null(FLOATS), content),
        f"{name}_shape": tell(shape, "Its shape: [n] or [n, k]."),
        f"{name}_dtype": allow_null({"type": "string", "enum": ["float64"]}),
    }


_OWNER: Shapes = {
    "owner": tell(
        TEXT, "The account's name; only for accounts that can see several accounts' rows."
    )
}
_IDS: Shapes = {
    "databoard_sf_id": tell(allow_null(ID), "The client's fold id."),
    "databoard_s": tell(allow_null(ID), "The client's submission id."),
    "databoard_s_id": tell(allow_null(ID), "The client's submission id."),
    "raw_data": tell(ID, "The dataset's id."),
}
_FOLD: Shapes = {
    **_OWNER,
    **_IDS,
    "train_is": tell(allow_null(INDICES), f"Row positions in the train part, int64. {_HIDDEN}"),
    "test_is": tell(
        allow_null(INDICES),
        f"Row positions in the train part; stored, but has no effect. {_HIDDEN}",
    ),
    "priority": tell(PRIORITY, "All waiting H folds run before any L fold."),
    "state": tell(FOLD_STATE, "Its progress; it changes while the fold runs."),
    "error_code": _code(FOLD_CODES, "Null unless ERROR."),
    "log_messages": tell(allow_null(TEXT), f"Its output, and for ERROR what happened. {_HIDDEN}"),
    "train_time": _seconds("to load and fit"),
    "validation_time": _seconds("to predict the train part"),
    "test_time": _seconds("to predict the test part"),
    "train_cpu_time": _seconds("CPU time of all processes, to load and fit"),
    "test_cpu_time": _seconds("CPU time of all processes, to predict the test part"),
    "train_memory": _memory("the peak until it was fitted"),
    "test_memory": _memory("the peak while it predicted the test part"),
    "new": tell(FLAG, "True until its predictions have been handed out."),
    "attempt": tell(COUNT, "How many times a worker has taken it."),
    "measured_by": tell(allow_null(TEXT), "How times and memory were measured."),
    "queued_at": tell(MOMENT, "When it was put into the queue."),
    "started_at": tell(allow_null(MOMENT), "When a worker took it."),
    "finished_at": tell(allow_null(MOMENT), "When it ended."),
    "waiting_because": _code(REASONS, "Null unless it is waiting."),
    **_predictions("full_train", "train"),
    **_predictions("test", "test"),
    "queue_position": tell(allow_null(COUNT), "1 for the next fold; null unless it is waiting."),
    "estimated_start": tell(allow_null(MOMENT), "When it is likely to start."),
    "task_id": tell(TEXT, "Names the wake-up message; it cannot be queried."),
}
_SUBMISSION: Shapes = {
    **_OWNER,
    **_IDS,
    "files_path": tell(TEXT, "Relative to the server's storage."),
    "hash_files": tell(TEXT, "A digest of its files."),
    "files": tell(list_of(TEXT), "The names of its files, sorted."),
}
_RAW_DATA: Shapes = {
    **_OWNER,
    "id": tell(ID, "Assigned by the server."),
    "name": tell({**TEXT, "maxLength": 40}, "Unique within the account."),
    "files_path": tell(TEXT, "Relative to the server's storage."),
    "workflow_elements": tell(TEXT, "Separated by commas."),
    "target_column": tell(TEXT, "May be empty if the dataset has its own module."),
    "state": {"type": "string", "enum": list(RawData.State.values)},
    "error_code": _code(SPLIT_CODES, "Null unless ERROR."),
    "log_messages": tell(
        allow_null(TEXT),
        "What went wrong during the split. Null for accounts that may not read or manage it.",
    ),
    "classes": tell(
        {"type": ["array", "null"], "items": {"type": ["string", "number", "boolean"]}},
        f"The sorted labels of the train part, as in the columns of predictions. {_HIDDEN}",
    ),
    "n_train": tell(allow_null(COUNT), "Rows of the train part; null until it is split."),
    "n_test": tell(allow_null(COUNT), "Rows of the test part; null until it is split."),
    "limits": refer("schemas", "LimitsInForce"),
    "paused": tell(FLAG, "Its waiting folds do not start."),
    "fail_fast": tell(
        FLAG, "A fold that fails before `fit` ends the waiting folds of its code, too."
    ),
    "created_at": MOMENT,
}

_EVENT: Shapes = {
    "id": ID,
    "at": tell(MOMENT, "By the database's clock."),
    "actor_id": tell(allow_null(ID), "The account that did it; null for a command or no account."),
    "actor": tell(TEXT, "Its name at the time; for a command, the system user."),
    "via": {"type": "string", "enum": list(Via.values)},
    "address": tell(TEXT, "The address it came from; empty if there is none."),
    "action": {"type": "string", "x-extensible-enum": list(Action.values)},
    "kind": {"type": "string", "x-extensible-enum": list(Kind.values)},
    "target": tell(TEXT, "The object it was done to, by its id in this API."),
    "owner_id": tell(allow_null(ID), "The account that the object belongs to."),
    "owner": tell(TEXT, "That account's name at the time."),
    "raw_data": tell(allow_null(ID), "The dataset that it is about."),
    "facts": {"type": "object", "description": "Further details, depending on the action."},
}

_FOLD_COLUMNS = make_fold_columns(
    Circumstances(
        has_worker=True,
        has_fit_worker=True,
        full_accounts=frozenset(),
        disabled_accounts=frozenset(),
        raw_data_seq=0,
    )
)
_POSITION = ("queue_position", "estimated_start")


def _name(columns: Iterable[AnyColumn]) -> list[str]:
    return [column.name for column in columns]


def make_row(shapes: Shapes, names: Iterable[str], description: str) -> Schema:
    """Return the schema of a row that has all of these columns; `owner` is not everybody's."""
    required = list(names)
    return {
        "type": "object",
        "description": description,
        "properties": {name: shapes[name] for name in (*required, OWNER.name)},
        "required": required,
    }


def _pick(row: Schema) -> Schema:
    """Return the schema of the same row in a list, where `fields` may leave some out."""
    picked = {name: value for name, value in row.items() if name != "required"}
    return tell(picked, f"{row['description']} In a list, `fields` selects the columns.")


def make_rows() -> dict[str, Schema]:
    """Return the schemas of all rows that are answered, by name."""
    fold = _name(_FOLD_COLUMNS)
    whole = {
        "RawData": make_row(_RAW_DATA, _name(RAW_DATA_COLUMNS), "A dataset."),
        "Submission": make_row(_SUBMISSION, _name(SUBMISSION_COLUMNS), "A submission."),
        "SubmissionFold": make_row(_FOLD, fold, "A fold."),
        "AuditEvent": make_row(_EVENT, _name(AUDIT_COLUMNS), "What was done and by whom."),
        "LightFold": make_row(
            _FOLD, _name(LIGHT_COLUMNS), "The columns of a fold that a poller needs."
        ),
    }
    posted = make_row(_FOLD, [*fold, "task_id"], "A fold that was accepted.")
    return {
        "RawData": whole["RawData"],
        **{f"Listed{name}": _pick(row) for name, row in whole.items()},
        "PostedSubmissionFold": posted,
        "BulkSubmissionFold": {**_pick(posted), "required": ["task_id"]},
        "SubmissionFoldDetail": make_row(
            _FOLD, [*fold, *_POSITION], "A fold and its place in the queue."
        ),
        "PredictionsRow": make_row(
            _FOLD, _name(PREDICTIONS_ROW_COLUMNS), "A finished fold with its predictions."
        ),
    }
