"""What the types of the bodies' fields do not say (`serializers.py`, `fields.py`)."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema

from runapp.runner.workflow import CLASS_NAMES
from runapp.schema.types import FILE, ID, INDICES, Schema, list_of

_ELEMENT = rf"\s*({'|'.join(CLASS_NAMES)})\s*"
# What each is by default; an operator may set other defaults and maxima.
_LIMITS = {
    "wall_seconds": ("number", "Wall time; by default 600, at most 86400."),
    "cpu_seconds": ("number", "CPU time of all processes; by default 600, at most 86400."),
    "memory_mb": ("integer", "Units of 1024 * 1024 bytes; by default 2048."),
    "processes": ("integer", "Processes and threads at once; by default 64, at most 512."),
    "scratch_mb": ("integer", "How much the fold may write; by default 256, at most 4096."),
    "output_kb": ("integer", "How much of its output is kept; by default 256, at most 4096."),
}

# By serializer and field.
REFINEMENTS: dict[str, dict[str, Schema]] = {
    "RawDataInput": {
        "name": {"description": "Unique within the account."},
        "target_column": {
            "description": "The column to predict; may be empty if the dataset has its own module."
        },
        "workflow_elements": {
            "description": "Separated by commas.",
            "pattern": f"^{_ELEMENT}(,{_ELEMENT})*$",
        },
        "files": {"description": "One CSV, or files including a Python module that reads them."},
        "limits": {"description": "Limits of each fold; those not given have their defaults."},
        "fail_fast": {
            "description": "A fold that fails before `fit` ends the waiting folds of its code, too."
        },
    },
    "RawDataChanges": {
        "limits": {"description": "The limits to change; null returns to the default."},
        "paused": {"description": "Whether its waiting folds are kept from starting."},
        "fail_fast": {
            "description": "A fold that fails before `fit` ends the waiting folds of its code, too."
        },
    },
    "SplitInput": {
        "raw_data_id": {"description": "The dataset."},
        "held_out_test": {
            "description": "The fraction of rows in the test part.",
            "exclusiveMinimum": 0,
            "exclusiveMaximum": 1,
        },
        "random_state": {"description": "As in scikit-learn."},
        "force": {"description": "Split again even if there are folds."},
    },
    "CustomSplitInput": {
        "raw_data_id": {"description": "The dataset."},
        "force": {"description": "Split again even if there are folds."},
    },
    "FoldsInput": {
        "n_splits": {"description": "The number of folds."},
        "random_state": {"description": "As in scikit-learn."},
        "stratify": {"description": "True by default for a dataset with classes."},
        "shuffle": {"description": "Whether rows are shuffled first."},
    },
    "SubmissionFoldInput": {
        "databoard_sf_id": {"description": "The client's own id of the fold."},
        "databoard_s_id": {"description": "The client's own id of the submission."},
        "train_is": {"description": "Row positions in the train part, to train on."},
        "test_is": {"description": "Row positions in the train part; stored, but has no effect."},
        "priority": {"description": "All waiting H folds run before any L fold."},
        "raw_data": {
            "description": "The dataset; required the first time the submission is named."
        },
        "files": {"description": "The submission's files; required the first time it is named."},
        "force": {
            "description": "`submission_fold` posts an existing fold again; "
            "`submission, submission_fold` also replaces the submission's files.",
            "pattern": r"^\s*(submission\s*,\s*)?submission_fold\s*$",
        },
    },
    "ShareInput": {
        "account": {"description": "The name of an account; give either this or `group`."},
        "group": {"description": "The name of a group."},
        "role": {
            "description": "`submit`: post folds; `read`: see all folds; `manage`: both, and more."
        },
    },
    "PasswordInput": {
        "old_password": {"description": "The account's present password."},
        "new_password": {"description": "At least ten characters, and not a common password."},
    },
    "TokenInput": {
        "name": {"description": "What it is for; unique within the account."},
        "expires_in_days": {"description": "How long it is valid; by default for ever."},
    },
    "PriorityInput": {"priority": {"description": "H runs before L."}},
    "PredictionListInput": {"list_submission_fold": {"description": "The client's fold ids."}},
    "PredictionNewInput": {
        "raw_data_id": {"description": "Only folds of this dataset; by default of all."},
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
