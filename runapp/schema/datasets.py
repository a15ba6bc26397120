"""Datasets: what their endpoints take and answer."""

from __future__ import annotations

from runapp.schema.lists import describe_list
from runapp.schema.operations import Answer, Operation, describe
from runapp.schema.types import Schema, list_of, refer
from runapp.serializers import (
    CustomSplitInput,
    FoldsInput,
    RawDataChanges,
    RawDataInput,
    SplitInput,
)
from runapp.views import raw_data as views

TAG = "Datasets"
QUOTAS = ("RateLimit-Policy", "RateLimit")
RAW_DATA = refer("schemas", "RawData")
_HAS_FOLDS = "The dataset has folds; send `force` to split it anyway."
_TASK = Answer("The split will be made; see the dataset's `state`.", refer("schemas", "Task"))


def _link(operation: str, **optional: Schema) -> Schema:
    return {"operationId": operation, "parameters": {"id": "$response.body#/id"}, **optional}


def _link_body(operation: str, **values: object) -> Schema:
    body = {"raw_data_id": "$response.body#/id", **values}
    return {"operationId": operation, "requestBody": body}


_SPECIFIC_MISSING: Schema = {
    "description": "Several files without a Python module, or a wrong `Accept`.",
    "content": {
        "application/json": {
            "schema": {
                "anyOf": [refer("schemas", "SpecificMissing"), refer("schemas", "Refusal")],
            }
        }
    },
}

describe_list(
    views.RawDataList, row="ListedRawData", id="listRawData", tag=TAG, summary="List datasets"
)
describe(
    views.RawDataList,
    post=Operation(
        id="postRawData",
        tag=TAG,
        summary="Post a dataset",
        body=RawDataInput,
        answers={
            201: Answer(
                "The dataset.",
                RAW_DATA,
                headers=QUOTAS,
                links={
                    "look": _link("getRawData"),
                    "change": _link("changeRawData"),
                    "delete": _link("deleteRawData"),
                    "split": _link_body("splitRawData", held_out_test=0.2),
                    "customSplit": _link_body("customSplitRawData"),
                    "folds": _link("makeFolds", requestBody={"n_splits": 2}),
                    "fold": {
                        "operationId": "postSubmissionFold",
                        "requestBody": {"raw_data": "$response.body#/id"},
                    },
                    "newPredictions": _link_body("newPredictions"),
                    "share": _link("postShare"),
                    "shares": _link("listShares"),
                },
            )
        },
        refusals={403: "Only organisers may post datasets.", 406: _SPECIFIC_MISSING},
    ),
)
describe(
    views.RawDataDetail,
    get=Operation(
        id="getRawData",
        tag=TAG,
        summary="Get a dataset",
        answers={200: Answer("The dataset.", RAW_DATA)},
        refusals={404: ""},
    ),
    patch=Operation(
        id="changeRawData",
        tag=TAG,
        summary="Change limits, pause or resume",
        body=RawDataChanges,
        rules={"minProperties": 1},
        answers={200: Answer("The changed dataset.", RAW_DATA)},
        refusals={403: "", 404: ""},
    ),
    delete=Operation(
        id="deleteRawData",
        tag=TAG,
        summary="Delete a dataset",
        description="Its files, submissions and folds are deleted, too; running folds are killed.",
        answers={204: Answer("It was deleted.")},
        refusals={403: "", 404: ""},
    ),
)
describe(
    views.Split,
    post=Operation(
        id="splitRawData",
        tag=TAG,
        summary="Split a dataset by a held-out fraction",
        body=SplitInput,
        answers={200: _TASK},
        refusals={403: "", 404: "", 409: _HAS_FOLDS},
    ),
)
describe(
    views.CustomSplit,
    post=Operation(
        id="customSplitRawData",
        tag=TAG,
        summary="Split a dataset by its own module",
        body=CustomSplitInput,
        answers={200: _TASK},
        refusals={403: "", 404: "", 409: _HAS_FOLDS},
    ),
)
describe(
    views.Folds,
    post=Operation(
        id="makeFolds",
        tag=TAG,
        summary="Make cross-validation folds",
        description="Positions for `postSubmissionFold`; nothing is stored.",
        body=FoldsInput,
        answers={200: Answer("The folds.", list_of(refer("schemas", "FoldIndices")))},
        refusals={403: "", 404: "", 409: "The dataset is not split."},
    ),
)
