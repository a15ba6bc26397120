"""What the types of the bodies' fields do not say (`serializers.py`, `fields.py`)."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema

from runapp.runner.child.workflow import CLASS_NAMES
from runapp.schema.types import FILE, ID, INDICES, Schema, list_of

_ELEMENT = rf"\s*({'|'.join(CLASS_NAMES)})\s*"
# What each is by default; an operator may set other defaults and maxima.
_LIMITS = {
    "wall_seconds": ("number", "Wall time; by default 600, at most 86400."),
    "cpu_seconds": ("number", "CPU time of all processes; by default 600, at most 86400."),
    "memory_mb": ("integer", "Units of 1024 * 1024 bytes; by default 2048."),
    "processes": ("integer", "Processes and threads at once; by default 64, at most 512."),
    "scratch_mb": ("integer", "What the fold may write; by default 256, at most 4096."),
    "output_kb": ("integer", "What is kept of its output; by default 256, at most 4096."),
}

# By serializer and field.
REFINEMENTS: dict[str, dict[str, Schema]] = {
    "RawDataInput": {
        "name": {"description": "Unique within the account."},
        "target_column": {
            "description": "The column to predict; may be empty with a module of its own."
        },
        "workflow_elements": {
            "description": "With commas between.",
            "pattern": f"^{_ELEMENT}(,{_ELEMENT})*$",
        },
        "files": {"description": "One CSV, or files with a Python module that reads them."},
        "limits": {"description": "Limits of each fold; what is not named has its default."},
        "fail_fast": {
            "description": "A fold that fails before `fit` ends the waiting ones of its code."
        },
    },
    "RawDataChanges": {
        "limits": {"description": "Those to change; null goes back to the default."},
        "paused": {"description": "Whether its waiting folds stay where they are."},
        "fail_fast": {
            "description": "A fold that fails before `fit` ends the waiting ones of its code."
        },
    },
    "SplitInput": {
        "raw_data_id": {"description": "The dataset."},
        "held_out_test": {
            "description": "The fraction of rows in the test part.",
            "exclusiveMinimum": 0,
            "exclusiveMaximum": 1,
        },
        "random_state": {"description": "scikit-learn's."},
        "force": {"description": "Split anew, though there are folds."},
    },
    "CustomSplitInput": {
        "raw_data_id": {"description": "The dataset."},
        "force": {"description": "Split anew, though there are folds."},
    },
    "FoldsInput": {
        "n_splits": {"description": "How many folds."},
        "random_state": {"description": "scikit-learn's."},
        "stratify": {"description": "By default true for a dataset with classes."},
        "shuffle": {"description": "Whether rows are shuffled first."},
    },
    "SubmissionFoldInput": {
        "databoard_sf_id": {"description": "The client's own id of the fold."},
        "databoard_s_id": {"description": "The client's own id of the submission."},
        "train_is": {"description": "Row positions in the train part, to train on."},
        "test_is": {"description": "Row positions in the train part; kept, and changes nothing."},
        "priority": {"description": "Every waiting H is taken before any L."},
        "raw_data": {"description": "The dataset; needed the first time for a submission."},
        "files": {"description": "The submission's; needed the first time for a submission."},
        "force": {
            "description": "`submission_fold` posts a known fold again; "
            "`submission, submission_fold` also replaces the submission's files.",
            "pattern": r"^\s*(submission\s*,\s*)?submission_fold\s*$",
        },
    },
    "ShareInput": {
        "account": {"description": "The name of an account; either this or `group`."},
        "group": {"description": "The name of a group."},
        "role": {"description": "Post folds; read everybody's; both, and change the dataset."},
    },
    "PasswordInput": {
        "old_password": {"description": "The one that the account has."},
        "new_password": {"description": "At least ten characters, none that many people use."},
    },
    "TokenInput": {
        "name": {"description": "What it is for; unique within the account."},
        "expires_in_days": {"description": "For how long it is good; by default for ever."},
    },
    "PriorityInput": {"priority": {"description": "H goes before L."}},
    "PredictionListInput": {"list_submission_fold": {"description": "The client's ids of folds."}},
    "PredictionNewInput": {
        "raw_data_id": {"description": "Those of one dataset; by default of all."},
        "limit": {"description": "The most folds to hand out."},
        "include_errors": {"description": "Hand out folds in ERROR as well."},
    },
}


class _Described(OpenApiSerializerFieldExtension):
    schema: Schema

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> Any:
        return self.schema


class Files(_Described):
    target_class = "runapp.fields.FilesField"
    schema = {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"minLength": 1, "maxLength": 255},
        "additionalProperties": FILE,
    }


class Indices(_Described):
    target_class = "runapp.fields.IndicesField"
    schema = INDICES


class Ids(_Described):
    target_class = "runapp.fields.IdsField"
    schema = list_of(ID)


class Limits(_Described):
    target_class = "runapp.fields.LimitsField"
    schema = {
        "type": "object",
        "properties": {
            name: {"type": [kind, "null"], "exclusiveMinimum": 0, "description": description}
            for name, (kind, description) in _LIMITS.items()
        },
        "additionalProperties": False,
    }


def refine_bodies(result: Schema, **_: Any) -> Schema:
    """Tell of fields what their types do not; drf-spectacular calls it."""
    schemas = result["components"]["schemas"]
    for name, fields in REFINEMENTS.items():
        for field, told in fields.items():
            schemas[name]["properties"][field].update(told)
            # A note of drf-spectacular's to itself.
            schemas[name]["properties"][field].pop("x-spec-enum-id", None)
    return result
