"""Routes of the API."""

from __future__ import annotations

from django.urls import path

from runapp.http import converters  # noqa: F401 - importing it registers them
from runapp.views import (
    account,
    audit,
    bulk,
    folds,
    passwords,
    predictions,
    raw_data,
    shares,
    tokens,
)

urlpatterns = [
    path("account/", account.AccountView.as_view()),
    path("account/password/", passwords.Password.as_view()),
    path("audit/", audit.AuditList.as_view()),
    path("rawdata/", raw_data.RawDataList.as_view()),
    path("rawdata/<id:pk>/", raw_data.RawDataDetail.as_view()),
    path("rawdata/<id:pk>/folds/", raw_data.Folds.as_view()),
    path("rawdata/<id:pk>/shares/", shares.ShareList.as_view()),
    path("rawdata/<id:pk>/shares/<id:share>/", shares.ShareDetail.as_view()),
    path("submission/", folds.SubmissionList.as_view()),
    path("submissionfold/", folds.SubmissionFoldList.as_view()),
    path("submissionfold/bulk/", bulk.SubmissionFoldBulk.as_view()),
    path("submissionfold/<id:databoard_sf_id>/", folds.SubmissionFoldDetail.as_view()),
    path(
        "submissionfold/<id:databoard_sf_id>/predictions/<part:part>/",
        predictions.PredictionsFile.as_view(),
    ),
    path("submissionfold-light/", folds.SubmissionFoldLightList.as_view()),
    path("testpredictions/list/", predictions.GetTestPredictionList.as_view()),
    path("testpredictions/new/", predictions.GetTestPredictionNew.as_view()),
    path("tokens/", tokens.TokenList.as_view()),
    path("tokens/<slug:public_id>/", tokens.TokenDetail.as_view()),
]
# The source documentation spells the splits' path both ways.
for prefix in ("rawdata", "raw_data"):
    urlpatterns += [
        path(f"{prefix}/split/", raw_data.SplitTrainTest.as_view()),
        path(f"{prefix}/customsplit/", raw_data.CustomSplit.as_view()),
    ]
