"""Routes of the operators' pages."""

from __future__ import annotations

from django.urls import path

from runapp.http import converters  # noqa: F401 - importing it registers them
from runapp.ops.views import accounts, actions, bulk_actions, datasets, folds, overview, sign_in

app_name = "ops"

urlpatterns = [
    path("", overview.show_overview, name="overview"),
    path("sign-in/", sign_in.SignIn.as_view(), name="sign-in"),
    path("sign-out/", sign_in.SignOut.as_view(), name="sign-out"),
    path("folds/", folds.show_folds, name="folds"),
    path("folds/confirm/", actions.ask_to_confirm, name="confirm"),
    path("folds/steer/", actions.steer_folds, name="steer"),
    path("folds/sweep/", bulk_actions.sweep_folds, name="sweep"),
    path("folds/<id:pk>/", folds.show_fold, name="fold"),
    path("folds/<id:pk>/place/", folds.show_place, name="place"),
    path("datasets/", datasets.show_datasets, name="datasets"),
    path("datasets/<id:pk>/", datasets.show_dataset, name="dataset"),
    path("datasets/<id:pk>/pause/", datasets.pause_dataset, name="pause"),
    path("submissions/<id:pk>/", accounts.show_submission, name="submission"),
    path("submissions/<id:pk>/files/<path:name>/", accounts.show_file, name="file"),
    # Names may hold whatever a path may.
    path("accounts/<path:name>/", accounts.show_account, name="account"),
]
