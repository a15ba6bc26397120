"""A dataset that is deleted between a request's first look and its work."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runapp.common.exceptions import NotFound
from runapp.datasets import cross_validation
from runapp.datasets import raw_data as services
from runapp.models import RawData
from tests.factories import make_account, make_ready_dataset

pytestmark = pytest.mark.django_db(transaction=True)

ACTIONS: dict[str, Callable[[RawData], object]] = {
    "limits": lambda raw_data: services.change_raw_data(raw_data=raw_data, limits={}),
    "delete": lambda raw_data: services.delete_raw_data(raw_data=raw_data),
    "split": lambda raw_data: services.request_split(
        raw_data=raw_data, held_out_test=0.5, random_state=0, force=True
    ),
    "folds": lambda raw_data: cross_validation.make_folds(
        raw_data=raw_data, n_splits=2, random_state=0, stratify=None, shuffle=True
    ),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_action_on_a_deleted_dataset_finds_nothing(action: str) -> None:
    raw_data = make_ready_dataset(make_account())
    services.delete_raw_data(raw_data=RawData.objects.get(pk=raw_data.pk))

    with pytest.raises(NotFound):
        ACTIONS[action](raw_data)
