"""The classes that the 2016 documentation names stand under these names, and are in use."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.urls import resolve

from runapp import serializers, views
from runapp.models import RawData, SubmissionFold
from tests.factories import (
    finish_fold,
    make_account,
    make_client,
    make_fold_body,
    make_raw_data_body,
    make_ready_dataset,
)

pytestmark = pytest.mark.django_db

VIEWS = {
    "RawDataList": "/runapp/rawdata/",
    "SplitTrainTest": "/runapp/rawdata/split/",
    "SubmissionFoldList": "/runapp/submissionfold/",
    "SubmissionFoldDetail": "/runapp/submissionfold/10/",
    "SubmissionFoldLightList": "/runapp/submissionfold-light/",
    "GetTestPredictionList": "/runapp/testpredictions/list/",
    "GetTestPredictionNew": "/runapp/testpredictions/new/",
}


@pytest.fixture
def ada() -> User:
    return make_account("ada")


@pytest.fixture
def raw_data(ada: User) -> RawData:
    return make_ready_dataset(ada)


@pytest.fixture
def fold(ada: User, raw_data: RawData) -> SubmissionFold:
    return finish_fold(ada, raw_data)


@pytest.mark.parametrize("name", VIEWS)
def test_view_of_the_source_document_answers_its_path(name: str) -> None:
    assert resolve(VIEWS[name]).func.view_class is getattr(views, name)


def test_posted_dataset_is_checked() -> None:
    good = serializers.RawDataSerializer(data=make_raw_data_body())
    bad = serializers.RawDataSerializer(data=make_raw_data_body(workflow_elements="magic"))

    assert good.is_valid()
    assert not bad.is_valid()
    assert set(bad.errors) == {"workflow_elements"}


def test_posted_fold_is_checked(raw_data: RawData) -> None:
    good = serializers.SubmissionFoldSerializer(data=make_fold_body(raw_data))
    bad = serializers.SubmissionFoldSerializer(data=make_fold_body(raw_data, priority="X"))

    assert good.is_valid()
    assert not bad.is_valid()
    assert set(bad.errors) == {"priority"}


def test_dataset_is_shown_as_the_list_shows_it(ada: User, raw_data: RawData) -> None:
    (row,) = make_client(ada).get("/runapp/rawdata/").json()

    shown = serializers.RawDataSerializer(raw_data).data

    assert {**shown, "created_at": None} == {**row, "created_at": None}


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("SubmissionFoldSerializer", "/runapp/submissionfold/"),
        ("SubmissionFoldLightSerializer", "/runapp/submissionfold-light/"),
    ],
)
def test_fold_is_shown_as_the_list_shows_it(
    ada: User, fold: SubmissionFold, name: str, path: str
) -> None:
    (row,) = make_client(ada).get(path).json()

    shown = getattr(serializers, name)(fold).data

    assert set(shown) == set(row)
    assert shown["databoard_sf_id"] == row["databoard_sf_id"] == fold.databoard_sf_id
    assert shown["state"] == row["state"] == "TESTED"


def test_predictions_are_shown_as_they_are_handed_out(ada: User, fold: SubmissionFold) -> None:
    body: dict[str, Any] = {"list_submission_fold": [fold.databoard_sf_id]}
    (row,) = make_client(ada).post("/runapp/testpredictions/list/", body).json()

    assert serializers.TestPredSubmissionFoldSerializer(fold).data == row


def test_several_rows_are_shown(fold: SubmissionFold) -> None:
    shown = serializers.SubmissionFoldLightSerializer([fold, fold], many=True).data

    assert [row["databoard_sf_id"] for row in shown] == 2 * [fold.databoard_sf_id]


def test_fold_has_its_submission_under_the_name_of_the_source_document(
    fold: SubmissionFold,
) -> None:
    assert fold.databoard_s == fold.submission

    assert SubmissionFold(databoard_s=fold.submission).submission == fold.submission
