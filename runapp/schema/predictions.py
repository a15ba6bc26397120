"""Predictions: what their endpoints take and answer."""

from __future__ import annotations

from runapp.common import npy
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
    views.GetTestPredictionList,
    post=Operation(
        id="listPredictions",
        tag=TAG,
        summary="Fetch the predictions of some folds",
        description="Of those that are TESTED or ERROR; they stop being `new`.",
        body=PredictionListInput,
        parameters=(OWNER,),
        answers={200: Answer("The finished ones, in the order asked for.", _ROWS)},
        refusals={403: "", 404: ""},
    ),
)
describe(
    views.GetTestPredictionNew,
    post=Operation(
        id="newPredictions",
        tag=TAG,
        summary="Fetch predictions that were never handed out",
        description="Each fold goes to one caller, once; those first that ended first.",
        body=PredictionNewInput,
        parameters=(refer("parameters", "Prefer"),),
        answers={
            200: Answer("Those there are.", _ROWS, headers=("Preference-Applied", "Retry-After"))
        },
        refusals={403: "", 404: ""},
    ),
)
describe(
    views.PredictionsFile,
    get=Operation(
        id="getPredictionsFile",
        tag=TAG,
        summary="Fetch the predictions of a fold on one part",
        description="As `numpy.load` reads them; the fold's `new` stays as it is.",
        parameters=(OWNER, refer("parameters", "If-None-Match")),
        answers={
            200: Answer("The array.", _FILE, headers=("ETag",), media_type=npy.MEDIA_TYPE),
            304: Answer(NOT_MODIFIED, headers=("ETag",)),
        },
        refusals={403: "", 404: "", 409: "Several accounts have a fold of that id."},
    ),
)
