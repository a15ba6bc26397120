"""Predictions: what their endpoints take and answer."""

from __future__ import annotations

from runapp import npy
from runapp.schema.lists import NOT_MODIFIED
from runapp.schema.operations import Answer, Operation, describe
from runapp.schema.types import Schema, list_of, refer
from runapp.serializers import PredictionListInput, PredictionNewInput
from runapp.views import predictions as views

TAG = "Predictions"
OWNER = refer("parameters", "owner")
_ROWS = list_of(refer("schemas", "PredictionsRow"))
_FILE: Schema = {"type": "string", "format": "binary"}

describe(
    views.PredictionList,
    post=Operation(
        id="listPredictions",
        tag=TAG,
        summary="Fetch the predictions of some folds",
        description="Only of those that are TESTED or ERROR; they are then no longer `new`.",
        body=PredictionListInput,
        parameters=(OWNER,),
        answers={200: Answer("The finished folds, in the order requested.", _ROWS)},
        refusals={403: "", 404: ""},
    ),
)
describe(
    views.PredictionNew,
    post=Operation(
        id="newPredictions",
        tag=TAG,
        summary="Fetch predictions that were never handed out",
        description="Each fold goes to one caller, once, in the order in which they ended.",
        body=PredictionNewInput,
        parameters=(refer("parameters", "Prefer"),),
        answers={
            200: Answer(
                "The folds that were handed out.",
                _ROWS,
                headers=("Preference-Applied", "Retry-After"),
            )
        },
        refusals={403: "", 404: ""},
    ),
)
describe(
    views.PredictionsFile,
    get=Operation(
        id="getPredictionsFile",
        tag=TAG,
        summary="Fetch the predictions of a fold for one part",
        description="In the format of `numpy.load`; the fold's `new` does not change.",
        parameters=(OWNER, refer("parameters", "If-None-Match")),
        answers={
            200: Answer("The array.", _FILE, headers=("ETag",), media_type=npy.MEDIA_TYPE),
            304: Answer(NOT_MODIFIED, headers=("ETag",)),
        },
        refusals={403: "", 404: "", 409: "Several accounts have a fold with that id."},
    ),
)
