"""The client module against a server that records what it is sent."""

import base64
import json
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from test_files import post_api

ACCOUNT = ("camille", "pass:word")


@dataclass(frozen=True)
class Recorded:
    method: str
    path: str
    authorization: str | None
    content_type: str | None
    body: Any
    prefer: str | None


@dataclass
class Recorder:
    host_url: str
    requests: list[Recorded] = field(default_factory=list)
    status: int = 200

    @property
    def only(self) -> Recorded:
        assert len(self.requests) == 1
        return self.requests[0]


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    recorder = Recorder(f"http://127.0.0.1:{server.server_address[1]}/")
    server.RequestHandlerClass = make_handler(recorder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield recorder
    server.shutdown()
    thread.join()
    server.server_close()


def make_handler(recorder: Recorder) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def record(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            recorder.requests.append(
                Recorded(
                    method=self.command,
                    path=self.path,
                    authorization=self.headers.get("Authorization"),
                    content_type=self.headers.get("Content-Type"),
                    body=json.loads(content) if content else None,
                    prefer=self.headers.get("Prefer"),
                )
            )
            self.send_response(recorder.status)
            self.end_headers()
            self.wfile.write(b'{"answer": 42}')

        do_GET = do_POST = do_DELETE = record

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    return Handler


def decode_file(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text, validate=True))


def write_files(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"content of {path.name} \xe9".encode())
    return paths


Call = Callable[[str], requests.Response]

# Every function that needs no file: its call, and the request that it makes.
CALLS: dict[str, tuple[Call, str, str, Any]] = {
    "post_split": (
        lambda url: post_api.post_split(url, *ACCOUNT, 0.7, 1),
        "POST",
        "/runapp/rawdata/split/",
        {"raw_data_id": 1, "held_out_test": 0.7, "random_state": 42},
    ),
    "post_split with a random state": (
        lambda url: post_api.post_split(url, *ACCOUNT, 0.7, 1, 7),
        "POST",
        "/runapp/rawdata/split/",
        {"raw_data_id": 1, "held_out_test": 0.7, "random_state": 7},
    ),
    "custom_post_split": (
        lambda url: post_api.custom_post_split(url, *ACCOUNT, 0),
        "POST",
        "/runapp/rawdata/customsplit/",
        {"raw_data_id": 0},
    ),
    "post_share with an account": (
        lambda url: post_api.post_share(url, *ACCOUNT, 3, "read", account="bob"),
        "POST",
        "/runapp/rawdata/3/shares/",
        {"role": "read", "account": "bob"},
    ),
    "post_share with a group": (
        lambda url: post_api.post_share(url, *ACCOUNT, 3, "submit", group="course"),
        "POST",
        "/runapp/rawdata/3/shares/",
        {"role": "submit", "group": "course"},
    ),
    "get_shares": (
        lambda url: post_api.get_shares(url, *ACCOUNT, 3),
        "GET",
        "/runapp/rawdata/3/shares/",
        None,
    ),
    "delete_share": (
        lambda url: post_api.delete_share(url, *ACCOUNT, 3, 8),
        "DELETE",
        "/runapp/rawdata/3/shares/8/",
        None,
    ),
    "get_prediction_list": (
        lambda url: post_api.get_prediction_list(url, *ACCOUNT, [1, 2, 10]),
        "POST",
        "/runapp/testpredictions/list/",
        {"list_submission_fold": [1, 2, 10]},
    ),
    "get_prediction_list of a numpy array": (
        lambda url: post_api.get_prediction_list(url, *ACCOUNT, np.array([3, 4])),
        "POST",
        "/runapp/testpredictions/list/",
        {"list_submission_fold": [3, 4]},
    ),
    "get_prediction_new": (
        lambda url: post_api.get_prediction_new(url, *ACCOUNT, 0),
        "POST",
        "/runapp/testpredictions/new/",
        {"raw_data_id": 0},
    ),
    "get_prediction_new of all datasets": (
        lambda url: post_api.get_prediction_new(url, *ACCOUNT, None),
        "POST",
        "/runapp/testpredictions/new/",
        {},
    ),
    "get_raw_data": (
        lambda url: post_api.get_raw_data(url, *ACCOUNT),
        "GET",
        "/runapp/rawdata/",
        None,
    ),
    "get_submission_fold": (
        lambda url: post_api.get_submission_fold(url, *ACCOUNT),
        "GET",
        "/runapp/submissionfold/",
        None,
    ),
    "get_submission_fold_detail": (
        lambda url: post_api.get_submission_fold_detail(url, *ACCOUNT, 10),
        "GET",
        "/runapp/submissionfold/10/",
        None,
    ),
    "get_submission_fold_light": (
        lambda url: post_api.get_submission_fold_light(url, *ACCOUNT),
        "GET",
        "/runapp/submissionfold-light/",
        None,
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_request_is_as_in_the_contract(recorder: Recorder, name: str) -> None:
    call, method, path, body = CALLS[name]

    response = call(recorder.host_url)

    sent = recorder.only
    assert (sent.method, sent.path, sent.body) == (method, path, body)
    assert sent.content_type == (None if body is None else "application/json")
    assert response.json() == {"answer": 42}


@pytest.mark.parametrize("name", CALLS)
def test_request_carries_basic_auth(recorder: Recorder, name: str) -> None:
    CALLS[name][0](recorder.host_url)

    credentials = base64.b64encode(b"camille:pass:word").decode()
    assert recorder.only.authorization == f"Basic {credentials}"


def test_auth_of_other_scripts_is_utf8(recorder: Recorder) -> None:
    post_api.get_raw_data(recorder.host_url, "Zo\xeb", "\u03c0")

    credentials = base64.b64encode("Zo\xeb:\u03c0".encode()).decode()
    assert recorder.only.authorization == f"Basic {credentials}"


@pytest.mark.parametrize("ending", ["", "/"])
def test_host_url_ends_with_or_without_slash(recorder: Recorder, ending: str) -> None:
    post_api.get_raw_data(recorder.host_url.rstrip("/") + ending, *ACCOUNT)

    assert recorder.only.path == "/runapp/rawdata/"


def test_refusal_is_returned_not_raised(recorder: Recorder) -> None:
    recorder.status = 409

    response = post_api.get_raw_data(recorder.host_url, *ACCOUNT)

    assert response.status_code == 409


def test_post_data_sends_the_file_by_its_base_name(recorder: Recorder, tmp_path: Path) -> None:
    (data_file,) = write_files(tmp_path, "deep/iris.csv")

    post_api.post_data(recorder.host_url, *ACCOUNT, "iris", "species", "classifier", str(data_file))

    sent = recorder.only
    assert (sent.method, sent.path) == ("POST", "/runapp/rawdata/")
    files = sent.body.pop("files")
    assert sent.body == {
        "name": "iris",
        "target_column": "species",
        "workflow_elements": "classifier",
    }
    assert {name: decode_file(text) for name, text in files.items()} == {
        "iris.csv": data_file.read_bytes()
    }


def test_post_data_sends_extra_files(recorder: Recorder, tmp_path: Path) -> None:
    data_file, *extra_files = write_files(tmp_path, "a.csv", "other/b.csv", "specific.py")

    post_api.post_data(
        recorder.host_url, *ACCOUNT, "digits", "digit", "classifier", data_file, extra_files
    )

    assert set(recorder.only.body["files"]) == {"a.csv", "b.csv", "specific.py"}


def test_post_data_refuses_two_files_of_one_base_name(recorder: Recorder, tmp_path: Path) -> None:
    data_file, extra_file = write_files(tmp_path, "a.csv", "other/a.csv")

    with pytest.raises(ValueError, match=r"Two files are named a\.csv"):
        post_api.post_data(recorder.host_url, *ACCOUNT, "n", "t", "w", data_file, [extra_file])

    assert recorder.requests == []


def test_post_submission_fold_leaves_out_what_is_none(recorder: Recorder) -> None:
    post_api.post_submission_fold(recorder.host_url, *ACCOUNT, 24, 11, [0, 2], range(1, 2))

    sent = recorder.only
    assert (sent.method, sent.path) == ("POST", "/runapp/submissionfold/")
    assert sent.body == {
        "databoard_s_id": 24,
        "databoard_sf_id": 11,
        "train_is": post_api.encode_indices([0, 2]),
        "test_is": post_api.encode_indices([1]),
        "priority": "L",
    }


def test_post_submission_fold_sends_all_it_is_given(recorder: Recorder, tmp_path: Path) -> None:
    files = write_files(tmp_path, "classifier.py", "calibrator.py")
    indices = np.arange(3)

    post_api.post_submission_fold(
        recorder.host_url,
        *ACCOUNT,
        np.int64(24),  # type: ignore[arg-type]
        11,
        indices,
        indices,
        "H",
        0,
        files,
        "submission, submission_fold",
    )

    body = recorder.only.body
    assert {name: decode_file(text) for name, text in body.pop("files").items()} == {
        path.name: path.read_bytes() for path in files
    }
    assert body == {
        "databoard_s_id": 24,
        "databoard_sf_id": 11,
        "train_is": post_api.encode_indices(indices),
        "test_is": post_api.encode_indices(indices),
        "priority": "H",
        "raw_data": 0,
        "force": "submission, submission_fold",
    }


def test_post_submission_fold_refuses_two_files_of_one_base_name(
    recorder: Recorder, tmp_path: Path
) -> None:
    files = write_files(tmp_path, "a/classifier.py", "b/classifier.py")

    with pytest.raises(ValueError, match=r"classifier\.py"):
        post_api.post_submission_fold(recorder.host_url, *ACCOUNT, 1, 1, [0], [1], "L", 0, files)

    assert recorder.requests == []


def test_bulk_sends_what_single_posts_would(recorder: Recorder, tmp_path: Path) -> None:
    path = tmp_path / "classifier.py"
    path.write_bytes(b"class Classifier: pass")
    folds: list[dict[str, Any]] = [
        {
            "sub_id": 1,
            "sub_fold_id": np.int64(1),
            "train_is": [0, 1],
            "test_is": range(2, 4),
            "raw_data_id": 3,
            "list_submission_files": [path],
        },
        {"sub_id": 1, "sub_fold_id": 2, "train_is": [2], "test_is": [0], "priority": "H"},
    ]
    for fold in folds:
        post_api.post_submission_fold(recorder.host_url, *ACCOUNT, **fold)

    post_api.post_submission_fold_bulk(
        recorder.host_url, *ACCOUNT, (post_api.make_submission_fold(**fold) for fold in folds)
    )

    *singles, bulk = recorder.requests
    assert (bulk.method, bulk.path) == ("POST", "/runapp/submissionfold/bulk/")
    assert bulk.body == [single.body for single in singles]


def test_changes_are_asked_for_and_waited_for(recorder: Recorder) -> None:
    post_api.get_submission_fold_light(recorder.host_url, *ACCOUNT, updated_since="a:b=&c", wait=20)

    assert recorder.only.path == "/runapp/submissionfold-light/?updated_since=a%3Ab%3D%26c"
    assert recorder.only.prefer == "wait=20"


def test_so_many_new_predictions_are_asked_for(recorder: Recorder) -> None:
    post_api.get_prediction_new(recorder.host_url, *ACCOUNT, None, limit=10, include_errors=True)

    assert recorder.only.body == {"limit": 10, "include_errors": True}


def test_encode_file_is_base64_of_zlib() -> None:
    content = bytes(range(256))

    assert decode_file(post_api.encode_file(content)) == content


@pytest.mark.parametrize(
    "indices",
    [
        [3, 1, 258],
        (3, 1, 258),
        [np.int32(3), 1, np.uint16(258)],
        np.array([3, 1, 258], dtype=np.int16),
        np.array([3, 1, 258], dtype=np.uint64),
        np.array([3, 1, 258], dtype=">i4"),
        np.array([3, 0, 1, 0, 258])[::2],
    ],
)
def test_encode_indices_is_int64_little_endian(indices: Any) -> None:
    decoded = decode_file(post_api.encode_indices(indices))

    assert decoded == b"".join(i.to_bytes(8, "little") for i in (3, 1, 258))


@pytest.mark.parametrize("indices", [range(2, 5), [], np.array([], dtype=int), [-1]])
def test_decode_indices_inverts_encode_indices(indices: Any) -> None:
    decoded = post_api.decode_indices(post_api.encode_indices(indices))

    assert decoded.dtype == np.int64
    assert decoded.tolist() == list(indices)


@pytest.mark.parametrize(
    "indices",
    [
        [0.0, 1.0],
        np.array([0.0, 1.0]),
        np.array([]),
        [True, False],
        [True, 2],
        [np.True_, 2],
        np.array([True, False]),
        ["1"],
        [None],
        [[0, 1]],
        [[]],
        3,
        np.array([2**63], dtype=np.uint64),
        [2**70],
    ],
    ids=repr,
)
def test_encode_indices_refuses_what_is_no_row_position(indices: Any) -> None:
    with pytest.raises(ValueError, match="Indices must"):
        post_api.encode_indices(indices)


@pytest.mark.parametrize("shape", [[6], [3, 2], [2, 3]])
def test_decode_predictions_gives_floats_in_shape(shape: list[int]) -> None:
    predictions = np.array([0.1, -0.0, 1e-320, 1e300, 1 / 3, 5.0]).reshape(shape)
    text = post_api.encode_file(predictions.astype("<f8").tobytes())

    decoded = post_api.decode_predictions(text, shape)

    assert decoded.dtype == np.float64
    assert decoded.shape == tuple(shape)
    assert decoded.tobytes() == predictions.tobytes()
    assert decoded.flags.writeable


def test_decode_predictions_refuses_another_number_of_values() -> None:
    text = post_api.encode_file(np.zeros(5).tobytes())

    with pytest.raises(ValueError, match="shape"):
        post_api.decode_predictions(text, [3, 2])
