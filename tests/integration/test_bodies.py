"""Bodies that no honest client sends: each a refusal in the API's shape."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from django.http import UnreadablePostError
from hypothesis import given
from hypothesis import strategies as st

from runapp.exceptions import InvalidInput, TooSlow
from runapp.models import RawData
from runapp.parsers import BoundedJSONParser, check_keys
from tests.factories import make_account, make_client, make_raw_data_body

pytestmark = pytest.mark.django_db

PATH = "/runapp/rawdata/"
BODY = orjson.dumps(make_raw_data_body())
DEEP = 1000  # just within what orjson takes


def send(body: bytes, *, content_type: str = "application/json", path: str = PATH) -> Any:
    client = make_client(make_account())
    return client.generic("POST", path, body, content_type=content_type)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "required"),
        (b" ", "parse_error"),
        (b"\xef\xbb\xbf" + BODY, "parse_error"),
        (BODY.replace(b"iris", b"ir\xffis"), "parse_error"),
        (BODY.replace(b'"iris"', rb'"\ud800"'), "parse_error"),
        (BODY.replace(b'"iris"', b"NaN"), "parse_error"),
        (BODY.replace(b'"iris"', b"-Infinity"), "parse_error"),
        (BODY[:-1], "parse_error"),
        (BODY + BODY, "parse_error"),
        (b"[" * 100_000, "parse_error"),
        (b"[" * 100_000 + b"]" * 100_000, "parse_error"),
        (b"[" * DEEP + b"]" * DEEP, "parse_error"),
        (b'{"name":' * DEEP + b"1" + b"}" * DEEP, "parse_error"),
        (b"[" * 66 + b"]" * 66, "parse_error"),
        (b"[" * 65 + b"]" * 65, "invalid"),
        (BODY.replace(b'"iris"', b"9" * 400), "parse_error"),
        (BODY.replace(b'"iris"', b"1e999"), "parse_error"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_broken_body_is_refused(body: bytes, code: str) -> None:
    response = send(body)

    assert response.status_code == 400
    assert code in {error["code"] for error in response.json()["errors"]}
    assert len(response.content) < 2000
    assert not RawData.objects.exists()


@pytest.mark.parametrize(
    "number", [b"1" + b"0" * 300, b"18446744073709551616", b"1e308", b"-1e308"]
)
def test_huge_number_is_refused(number: bytes) -> None:
    response = send(b'{"name": "a", "expires_in_days": %b}' % number, path="/runapp/tokens/")

    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == "expires_in_days"


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "nonsense", "a/b; c=\xff"],
)
def test_other_content_type_is_refused(content_type: str) -> None:
    response = send(BODY, content_type=content_type)

    assert response.status_code == 415
    assert response.json()["errors"][0]["code"] == "unsupported_media_type"


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"name": "a", "name": "b"}', "'name'"),
        (b'{"name": "a", "n\\u0061me": "b"}', "'name'"),
        (b'{"files": {"a.csv": "", "a.csv": ""}}', "'a.csv'"),
        (b'[{"x": [{"y": 1, "z": {}, "y": 1}]}]', "'y'"),
        (b'{"": 1, "": 2}', "''"),
        (b'{"a" \t\r\n : 1, "a":2}', "'a'"),
        (b'{"\\"": ":", "\\"": "\\":"}', "'\"'"),
        (b'{"%b": 1, "%b": 2}' % (b"x" * 100, b"x" * 100), f"'{'x' * 40}...'"),
        (b'{"a":' * 60 + b'{"b": 1, "b": 2}' + b"}" * 60, "'b'"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_key_that_comes_twice_is_refused(body: bytes, shown: str) -> None:
    response = send(body)

    message = f"The body has the key {shown} twice."
    assert response.status_code == 400
    assert response.json() == {
        "detail": message,
        "errors": [{"field": None, "code": "duplicate_key", "message": message}],
    }


def test_key_that_comes_twice_in_a_bulk_is_refused_before_any_fold() -> None:
    response = send(
        b'[{"databoard_sf_id": 1, "databoard_sf_id": 2}]', path="/runapp/submissionfold/bulk/"
    )

    assert response.status_code == 400
    assert response.json()["errors"][0]["code"] == "duplicate_key"


JSON = st.recursive(
    st.none() | st.integers(-9, 9) | st.text('":\\ {}[],ax', max_size=6),
    lambda below: (
        st.lists(below, max_size=4)
        | st.dictionaries(st.text('":\\ a', max_size=3), below, max_size=4)
    ),
    max_leaves=12,
)


@given(tree=JSON, indent=st.sampled_from([None, 0, 1]))
def test_any_body_without_such_a_key_is_taken(tree: Any, indent: int | None) -> None:
    body = json.dumps(tree, indent=indent).encode()

    check_keys(body, orjson.loads(body))


@given(tree=JSON, key=st.text('":\\ a', max_size=3), below=JSON)
def test_any_body_with_such_a_key_is_refused(tree: Any, key: str, below: Any) -> None:
    pair = f"{json.dumps(key)}: {json.dumps(below)}"
    body = f"[{json.dumps(tree)}, {{{pair}, {pair}}}]".encode()

    with pytest.raises(InvalidInput):
        check_keys(body, orjson.loads(body))


class Stream:
    """A request whose body fails while it is read."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause

    def read(self, size: int) -> bytes:
        raise UnreadablePostError("broken") from self.cause


def test_late_body_is_told_apart_from_one_that_broke_off() -> None:
    from rest_framework.exceptions import ParseError

    with pytest.raises(TooSlow):
        BoundedJSONParser().parse(Stream(TimeoutError()))  # type: ignore[arg-type]
    with pytest.raises(ParseError, match="ended too early"):
        BoundedJSONParser().parse(Stream(ConnectionResetError()))  # type: ignore[arg-type]
