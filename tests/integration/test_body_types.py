"""What bodies take for what, and that any text in names comes back as it was sent."""

from __future__ import annotations

from typing import Any

import pytest

from tests.factories import (
    make_account,
    make_client,
    make_fold_body,
    make_raw_data,
    make_raw_data_body,
    make_ready_dataset,
)

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("path", "field", "value"),
    [
        ("rawdata/split/", "raw_data_id", True),
        ("rawdata/split/", "raw_data_id", 1.5),
        ("rawdata/split/", "held_out_test", True),
        ("rawdata/split/", "force", "yes"),
        ("rawdata/split/", "force", 1),
        ("rawdata/split/", "force", "off"),
        ("rawdata/split/", "force", []),
        ("rawdata/", "name", 5),
        ("rawdata/", "target_column", True),
        ("submissionfold/", "force", 1),
    ],
)
def test_value_of_another_type_is_refused(path: str, field: str, value: Any) -> None:
    account = make_account()
    raw_data = make_raw_data(account)
    bodies: dict[str, dict[str, Any]] = {
        "rawdata/split/": {"raw_data_id": raw_data.pk, "held_out_test": 0.2},
        "rawdata/": make_raw_data_body(name="other"),
        "submissionfold/": make_fold_body(raw_data),
    }

    response = make_client(account).post(f"/runapp/{path}", {**bodies[path], field: value})

    assert response.status_code == 400
    assert [(e["field"], e["code"]) for e in response.json()["errors"]] == [(field, "invalid")]


def test_texts_of_numbers_and_flags_are_taken_for_them() -> None:
    account = make_account()
    raw_data = make_raw_data(account)
    body = {"raw_data_id": str(raw_data.pk), "held_out_test": "0.2", "force": "False"}

    response = make_client(account).post("/runapp/rawdata/split/", body)

    assert response.status_code == 200
    raw_data.refresh_from_db()
    assert raw_data.split_request["held_out_test"] == 0.2


def test_whole_number_is_a_fraction_of_the_right_type() -> None:
    account = make_account()
    raw_data = make_ready_dataset(account)
    body = {"raw_data_id": raw_data.pk, "held_out_test": 1}

    response = make_client(account).post("/runapp/rawdata/split/", body)

    assert response.json()["held_out_test"] == ["Must lie strictly between 0 and 1."]


@pytest.mark.parametrize(
    "name",
    [
        "'; drop table runapp_rawdata; --",
        "{{ 7 * 7 }}{% debug %}",
        "${7*7} %(name)s %s {0}",
        "<script>alert(1)</script>",
        "\u05e2\u05d1\u05e8\u05d9\u05ea \u0639\u0631\u0628\u064a",
        "🎉",
    ],
)
def test_name_of_any_text_comes_back_as_sent(name: str) -> None:
    client = make_client(make_account())

    posted = client.post("/runapp/rawdata/", make_raw_data_body(name=name, target_column=name))

    assert posted.status_code == 201
    assert (posted.json()["name"], posted.json()["target_column"]) == (name, name)
    listed = client.get(f"/runapp/rawdata/{posted.json()['id']}/").json()
    assert listed["name"] == name
