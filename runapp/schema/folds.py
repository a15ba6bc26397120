"""Submissions and folds: what their endpoints take and answer."""

from __future__ import annotations

from runapp.queries import MOST_ROWS
from runapp.schema.columns import make_rows
from runapp.schema.components import make_words
from runapp.schema.datasets import QUOTAS
from runapp.schema.lists import describe_list
from runapp.schema.operations import Answer, Operation, describe
from runapp.schema.types import Schema, list_of, refer
from runapp.serializers import PriorityInput, SubmissionFoldInput
from runapp.views import bulk
from runapp.views import folds as views

TAG = "Folds"
DETAIL = refer("schemas", "SubmissionFoldDetail")
OWNER = refer("parameters", "owner")
_SEVERAL = "Several accounts have a fold with that id, or its state does not allow this."


def _link(operation: str, **optional: object) -> Schema:
    found = {"databoard_sf_id": "$response.body#/databoard_sf_id"}
    return {"operationId": operation, "parameters": found, **optional}


def link_file(part: str) -> Schema:
    link = _link("getPredictionsFile")
    link["parameters"]["part"] = part
    return link


describe_list(
    views.SubmissionList,
    row="ListedSubmission",
    id="listSubmissions",
    tag="Submissions",
    summary="List submissions",
)
describe_list(
    views.SubmissionFoldList,
    row="ListedSubmissionFold",
    id="listSubmissionFolds",
    tag=TAG,
    summary="List folds with all their attributes",
)
describe_list(
    views.SubmissionFoldLightList,
    row="ListedLightFold",
    id="listLightFolds",
    tag=TAG,
    summary="Poll the states of folds",
)
describe(
    views.SubmissionFoldList,
    post=Operation(
        id="postSubmissionFold",
        tag=TAG,
        summary="Post a fold",
        body=SubmissionFoldInput,
        answers={
            201: Answer(
                "The fold, which is waiting.",
                refer("schemas", "PostedSubmissionFold"),
                headers=QUOTAS,
                links={
                    "look": _link("getSubmissionFold"),
                    "cancel": _link("cancelSubmissionFold"),
                    "prioritise": _link("changePriority", requestBody={"priority": "H"}),
                    "predictions": {
                        "operationId": "listPredictions",
                        "requestBody": {
                            "list_submission_fold": ["$response.body#/databoard_sf_id"]
                        },
                    },
                    "testPredictions": link_file("test"),
                },
            )
        },
        refusals={
            403: "",
            404: "",
            409: "The submission exists with other files; send `force` to replace them.",
        },
    ),
)
_BULK: Schema = {
    "type": "array",
    "maxItems": MOST_ROWS,
    "items": {
        "anyOf": [
            refer("schemas", "SubmissionFoldInput"),
            {"description": "Anything else is refused separately; the other folds are accepted."},
        ]
    },
}
describe(
    bulk.SubmissionFoldBulk,
    post=Operation(
        id="postSubmissionFolds",
        tag=TAG,
        summary="Post many folds",
        description="Each is accepted or refused separately, in order. Send the files of a "
        "submission with the first of its folds.",
        body=_BULK,
        parameters=(
            make_words(
                "fields",
                list(make_rows()["ListedSubmissionFold"]["properties"]),
                "The columns to return for each fold.",
            ),
        ),
        answers={
            200: Answer(
                "The result for each fold.", list_of(refer("schemas", "BulkAnswer")), headers=QUOTAS
            )
        },
        refusals={403: ""},
    ),
)
describe(
    views.SubmissionFoldDetail,
    get=Operation(
        id="getSubmissionFold",
        tag=TAG,
        summary="Get a fold",
        parameters=(OWNER,),
        answers={200: Answer("The fold.", DETAIL)},
        refusals={404: "", 409: _SEVERAL},
    ),
    patch=Operation(
        id="changePriority",
        tag=TAG,
        summary="Change a waiting fold's priority",
        body=PriorityInput,
        parameters=(OWNER,),
        answers={200: Answer("The changed fold.", DETAIL)},
        refusals={403: "", 404: "", 409: _SEVERAL},
    ),
    delete=Operation(
        id="cancelSubmissionFold",
        tag=TAG,
        summary="Cancel a fold",
        parameters=(OWNER,),
        answers={
            200: Answer("It was waiting and has ended.", DETAIL, headers=QUOTAS),
            202: Answer("It was running and is being killed.", DETAIL),
        },
        refusals={403: "", 404: "", 409: _SEVERAL},
    ),
)
