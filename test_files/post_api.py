"""Talk to datarun over HTTP: post datasets and submissions, fetch states and predictions.

Every function that sends a request returns the `requests.Response` as it came, whatever its
status; `response.json()` is the answer, `response.raise_for_status()` turns a refusal into an
exception. The module needs numpy and requests only, so that it can be copied into a client.
"""

import base64
import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import requests
from requests.auth import HTTPBasicAuth

PathLike = str | os.PathLike[str]
Indices = npt.ArrayLike | range

# To connect, and to wait for the answer once the body is sent: the server takes a large dataset
# in before it answers.
TIMEOUT_SECONDS = (10.0, 120.0)


def encode_file(content: bytes) -> str:
    """Encode a file's content for the wire.

    Parameters
    ----------
    content : bytes
        The content of the file.

    Returns
    -------
    str
        base64(zlib(content)), ASCII.
    """
    return base64.b64encode(zlib.compress(content)).decode("ascii")


def encode_indices(indices: Indices) -> str:
    """Encode row positions for the wire.

    Parameters
    ----------
    indices : array-like of int, shape (n_rows,)
        0-based positions in the train part: an array of any integer type, a list, tuple or range.

    Returns
    -------
    str
        base64(zlib(int64 little-endian bytes)), ASCII.

    Raises
    ------
    ValueError
        If a value is not an integer (floats and bools are refused), does not fit 64 bits, or the
        values are not a flat sequence.
    """
    return encode_file(_as_positions(indices).astype("<i8").tobytes())


def decode_indices(text: str) -> npt.NDArray[np.int64]:
    """Decode row positions, the inverse of `encode_indices`.

    Parameters
    ----------
    text : str
        Row positions as they are on the wire.

    Returns
    -------
    numpy.ndarray of int64, shape (n_rows,)
        The row positions.

    Raises
    ------
    ValueError
        If the text is not base64 or does not hold whole 64-bit numbers.
    zlib.error
        If what the base64 holds is not zlib's format.
    """
    return np.frombuffer(_decode(text), dtype="<i8").astype(np.int64)


def decode_predictions(text: str, shape: Sequence[int]) -> npt.NDArray[np.float64]:
    """Decode predictions.

    Parameters
    ----------
    text : str
        `test_predictions` or `full_train_predictions` of an answer.
    shape : sequence of int
        The sibling field `test_predictions_shape` or `full_train_predictions_shape`.

    Returns
    -------
    numpy.ndarray of float64, shape (n_rows,) or (n_rows, n_columns)
        The predictions, a writable copy.

    Raises
    ------
    ValueError
        If the text is not base64, or holds another number of values than the shape says.
    zlib.error
        If what the base64 holds is not zlib's format.
    """
    values = np.frombuffer(_decode(text), dtype="<f8").astype(np.float64)
    return values.reshape(tuple(shape))


def post_data(
    host_url: str,
    username: str,
    password: str,
    data_name: str,
    target_column: str,
    workflow_elements: str,
    data_file: PathLike,
    extra_files: Sequence[PathLike] | None = None,
) -> requests.Response:
    """Post a dataset.

    Parameters
    ----------
    host_url : str
        The server's address, such as `http://127.0.0.1:8000/`.
    username : str
        Name of the account.
    password : str
        Password of the account.
    data_name : str
        Name of the dataset, at most 40 characters, unique within the account.
    target_column : str
        Name of the column to predict.
    workflow_elements : str
        Comma-separated elements of a submission, such as `feature_extractor,classifier`.
    data_file : path
        The CSV file; of a dataset with its own `specific.py`, any of its files.
    extra_files : sequence of path, optional
        Further files of the dataset, `specific.py` among them. A file's name on the wire is its
        base name.

    Returns
    -------
    requests.Response
        201 and the dataset, or a refusal.

    Raises
    ------
    ValueError
        If two files have one base name.
    OSError
        If a file cannot be read.
    """
    body = {
        "name": data_name,
        "target_column": target_column,
        "workflow_elements": workflow_elements,
        "files": _encode_files([data_file, *(extra_files or [])]),
    }
    return _send("POST", host_url, "rawdata/", username, password, body)


def post_split(
    host_url: str,
    username: str,
    password: str,
    held_out_test: float,
    raw_data_id: int,
    random_state: int = 42,
) -> requests.Response:
    """Ask for the split of a standard dataset into its train and test parts.

    Parameters
    ----------
    host_url : str
        The server's address, such as `http://127.0.0.1:8000/`.
    username : str
        Name of the account.
    password : str
        Password of the account.
    held_out_test : float
        Fraction of the rows kept for the test part, strictly between 0 and 1.
    raw_data_id : int
        Id of the dataset.
    random_state : int, default=42
        Seed of the split.

    Returns
    -------
    requests.Response
        200 and the `task_id`, or a refusal. The dataset's state tells when it is done.
    """
    body = {
        "raw_data_id": raw_data_id,
        "held_out_test": held_out_test,
        "random_state": random_state,
    }
    return _send("POST", host_url, "rawdata/split/", username, password, body)


def custom_post_split(
    host_url: str, username: str, password: str, raw_data_id: int
) -> requests.Response:
    """Ask for the split of a dataset that brings its own `specific.py`.

    Parameters
    ----------
    host_url : str
        The server's address, such as `http://127.0.0.1:8000/`.
    username : str
        Name of the account.
    password : str
        Password of the account.
    raw_data_id : int
        Id of the dataset.

    Returns
    -------
    requests.Response
        200 and the `task_id`, or a refusal. The dataset's state tells when it is done.
    """
    body = {"raw_data_id": raw_data_id}
    return _send("POST", host_url, "rawdata/customsplit/", username, password, body)


def post_share(
    host_url: str,
    username: str,
    password: str,
    raw_data_id: int,
    role: str,
    account: str | None = None,
    group: str | None = None,
) -> requests.Response:
    """Let another account, or the members of a group, use a dataset.

    Parameters
    ----------
    host_url : str
        The server's address, such as `http://127.0.0.1:8000/`.
    username : str
        Name of the account.
    password : str
        Password of the account.
    raw_data_id : int
        Id of the dataset.
    role : {'submit', 'read', 'manage'}
        Post folds on it; see everybody's folds on it; both, and change it.
    account, group : str, optional
        Name of the one or of the other.

    Returns
    -------
    requests.Response
        201 and the share, or a refusal.
    """
    body = {"role": role, "account": account, "group": group}
    return _send("POST", host_url, f"rawdata/{raw_data_id}/shares/", username, password, body)


def get_shares(host_url: str, username: str, password: str, raw_data_id: int) -> requests.Response:
    """Get the shares of a dataset.

    Parameters
    ----------
    host_url : str
        The server's address, such as `http://127.0.0.1:8000/`.
    username : str
        Name of the account.
    password : str
        Password of the account.
    raw_data_id : int
        Id of the dataset.

    Returns
    -------
    requests.Response
        200 and an array of `{id, account, group, role, created_at}`, or a refusal.
    """
    return _send("GET", host_url, f"rawdata/{raw_data_id}/shares/", username, password)


def delete_share(
    host_url: str, username: str, password: str, raw_data_id: int, share_id: int
) -> requests.Response:
    """Withdraw a share of a dataset; folds that were posted by it stay.

    Parameters
    ----------
    host_url : str
        The server's address, such as `http://127.0.0.1:8000/`.
    username : str
        Name of the account.
    password : str
        Password of the account.
    raw_data_id : int
        Id of the dataset.
    share_id : int
        Id of the share.

    Returns
    -------
    requests.Response
        204, or a refusal.
    """
    path = f"rawdata/{raw_data_id}/shares/{share_id}/"
    return _send("DELETE", host_url, path, username, password)


def post_submission_fold(
    host_url: str,
    username: str,
    password: str,
    sub_id: int,
    sub_fold_id: int,
    train_is: Indices | None,
    test_is: Indices | None,
    priority: str | None = "L",
    raw_data_id: int | None = None,
    list_submission_files: Iterable[PathLike] | None = None,
    force: str | None = None,
) -> requests.Response:
    """Post a fold of a submission and, the first time, the submission with its files.

    What is None is left out of the request.

    Parameters
    ----------
    host_url : str
        The server's address, such as `http://127.0.0.1:8000/`.
    username : str
        Name of the account.
    password : str
        Password of the account.
    sub_id : int
        Id of the submission, chosen by the client.
    sub_fold_id : int
        Id of the fold, chosen by the client.
    train_is : array-like of int, shape (n_train_rows,)
        0-based positions, in the train part, of the rows to train on.
    test_is : array-like of int, shape (n_test_rows,)
        0-based positions, in the train part, of the rows to validate on.
    priority : {'L', 'H'}, default='L'
        Low or high.
    raw_data_id : int, optional
        Id of the dataset; needed the first time that a submission is named.
    list_submission_files : iterable of path, optional
        The submission's files; needed the first time. A file's name on the wire is its base name.
    force : {'submission_fold', 'submission, submission_fold'}, optional
        Post again what exists: the fold alone, or the submission's files too.

    Returns
    -------
    requests.Response
        201 and the fold, or a refusal.

    Raises
    ------
    ValueError
        If the positions are not integers, or two files have one base name.
    OSError
        If a file cannot be read.
    """
    body = make_submission_fold(
        sub_id,
        sub_fold_id,
        train_is,
        test_is,
        priority=priority,
        raw_data_id=raw_data_id,
        list_submission_files=list_submission_files,
        force=force,
    )
    return _send("POST", host_url, "submissionfold/", username, password, body)


def make_submission_fold(
    sub_id: int,
    sub_fold_id: int,
    train_is: Indices | None,
    test_is: Indices | None,
    priority: str | None = "L",
    raw_data_id: int | None = None,
    list_submission_files: Iterable[PathLike] | None = None,
    force: str | None = None,
) -> dict[str, Any]:
    """Make the body of one fold, for `post_submission_fold_bulk`.

    Parameters
    ----------
    sub_id, sub_fold_id, train_is, test_is, priority, raw_data_id, list_submission_files, force
        As `post_submission_fold` takes them.

    Returns
    -------
    dict
        The body, without what is None.

    Raises
    ------
    ValueError
        If the positions are not integers, or two files have one base name.
    OSError
        If a file cannot be read.
    """
    body = {
        "databoard_s_id": sub_id,
        "databoard_sf_id": sub_fold_id,
        "train_is": None if train_is is None else encode_indices(train_is),
        "test_is": None if test_is is None else encode_indices(test_is),
        "priority": priority,
        "raw_data": raw_data_id,
        "files": None if list_submission_files is None else _encode_files(list_submission_files),
        "force": force,
    }
    return _leave_out_nones(body)


def post_submission_fold_bulk(
    host_url: str, username: str, password: str, folds: Iterable[dict[str, Any]]
) -> requests.Response:
    """Post many folds in one request, each of which is accepted or refused by itself.

    Parameters
    ----------
    host_url : str
        The server's address, such as `http://127.0.0.1:8000/`.
    username : str
        Name of the account.
    password : str
        Password of the account.
    folds : iterable of dict
        What `make_submission_fold` makes, at most 10000. A submission's files need to come with
        the first of its folds only.

    Returns
    -------
    requests.Response
        200 and an array with a `status` and a `body` for each, in order, or a refusal.
    """
    return _send("POST", host_url, "submissionfold/bulk/", username, password, list(folds))


def get_prediction_list(
    host_url: str, username: str, password: str, list_submission_fold_id: Iterable[int]
) -> requests.Response:
    """Get the predictions of the finished ones among some folds.

    Parameters
    ----------
    host_url : str
        The server's address, such as `http://127.0.0.1:8000/`.
    username : str
        Name of the account.
    password : str
        Password of the account.
    list_submission_fold_id : iterable of int
        Ids of the folds.

    Returns
    -------
    requests.Response
        200 and an array with one element per finished fold, or a refusal.
    """
    body = {"list_submission_fold": [_plain(fold_id) for fold_id in list_submission_fold_id]}
    return _send("POST", host_url, "testpredictions/list/", username, password, body)


def get_prediction_new(
    host_url: str,
    username: str,
    password: str,
    raw_data_id: int | None,
    limit: int | None = None,
    include_errors: bool | None = None,
) -> requests.Response:
    """Get the predictions that nobody has asked for yet.

    Parameters
    ----------
    host_url : str
        The server's address, such as `http://127.0.0.1:8000/`.
    username : str
        Name of the account.
    password : str
        Password of the account.
    raw_data_id : int or None
        Id of a dataset; None asks for those of all datasets.
    limit : int, optional
        How many folds at most; None is all.
    include_errors : bool, optional
        Whether folds that ended in error are among them; None is no.

    Returns
    -------
    requests.Response
        200 and an array with one element per fold, or a refusal.
    """
    body = {"raw_data_id": raw_data_id, "limit": limit, "include_errors": include_errors}
    return _send("POST", host_url, "testpredictions/new/", username, password, body)


def get_raw_data(host_url: str, username: str, password: str) -> requests.Response:
    """Get all datasets.

    Parameters
    ----------
    host_url : str
        The server's address, such as `http://127.0.0.1:8000/`.
    username : str
        Name of the account.
    password : str
        Password of the account.

    Returns
    -------
    requests.Response
        200 and an array of datasets, or a refusal.
    """
    return _send("GET", host_url, "rawdata/", username, password)


def get_submission_fold(host_url: str, username: str, password: str) -> requests.Response:
    """Get all folds with all their attributes.

    Parameters
    ----------
    host_url : str
        The server's address, such as `http://127.0.0.1:8000/`.
    username : str
        Name of the account.
    password : str
        Password of the account.

    Returns
    -------
    requests.Response
        200 and an array of folds, or a refusal.
    """
    return _send("GET", host_url, "submissionfold/", username, password)


def get_submission_fold_detail(
    host_url: str, username: str, password: str, submission_fold_id: int
) -> requests.Response:
    """Get one fold with all its attributes.

    Parameters
    ----------
    host_url : str
        The server's address, such as `http://127.0.0.1:8000/`.
    username : str
        Name of the account.
    password : str
        Password of the account.
    submission_fold_id : int
        Id of the fold.

    Returns
    -------
    requests.Response
        200 and the fold, or a refusal.
    """
    path = f"submissionfold/{submission_fold_id}/"
    return _send("GET", host_url, path, username, password)


def get_submission_fold_light(
    host_url: str,
    username: str,
    password: str,
    updated_since: str | None = None,
    wait: int | None = None,
) -> requests.Response:
    """Get the id, submission, state and newness of all folds, or of those that have changed.

    Parameters
    ----------
    host_url : str
        The server's address, such as `http://127.0.0.1:8000/`.
    username : str
        Name of the account.
    password : str
        Password of the account.
    updated_since : str, optional
        Only what has changed since an earlier answer, whose `Datarun-Cursor` header this is.
    wait : int, optional
        Seconds, at most 20, that the server may hold the request until something has changed.

    Returns
    -------
    requests.Response
        200 and an array of `{databoard_sf_id, databoard_s, state, new}`, or a refusal; 410 when
        the whole list must be read again.
    """
    parameters = {} if updated_since is None else {"updated_since": updated_since}
    headers = {} if wait is None else {"Prefer": f"wait={wait}"}
    return _send(
        "GET",
        host_url,
        "submissionfold-light/",
        username,
        password,
        parameters=parameters,
        headers=headers,
    )


def _send(
    method: str,
    host_url: str,
    path: str,
    username: str,
    password: str,
    body: dict[str, Any] | list[dict[str, Any]] | None = None,
    *,
    parameters: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
) -> requests.Response:
    if isinstance(body, dict):
        body = _leave_out_nones(body)
    # requests would encode a str in Latin-1 and fail on any other character.
    auth = HTTPBasicAuth(username.encode("utf-8"), password.encode("utf-8"))
    url = f"{host_url.rstrip('/')}/runapp/{path}"
    return requests.request(
        method,
        url,
        auth=auth,
        json=body,
        params=parameters,
        headers=headers,
        timeout=TIMEOUT_SECONDS,
    )


def _leave_out_nones(body: dict[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in body.items() if value is not None}


def _plain(value: Any) -> Any:
    # A loop over a numpy array gives numpy scalars, which JSON does not know.
    return value.item() if isinstance(value, np.generic) else value


def _encode_files(paths: Iterable[PathLike]) -> dict[str, str]:
    files: dict[str, str] = {}
    for path in map(Path, paths):
        if path.name in files:
            raise ValueError(f"Two files are named {path.name}; a file is sent by its base name.")
        files[path.name] = encode_file(path.read_bytes())
    return files


def _as_positions(indices: Indices) -> npt.NDArray[np.integer[Any]]:
    # In a list, numpy would silently take True for 1 beside other integers.
    if isinstance(indices, list | tuple) and any(isinstance(i, bool | np.bool_) for i in indices):
        raise ValueError("Indices must be integers, not bools.")
    positions = np.asarray(indices)
    if positions.size == 0 and not isinstance(indices, np.ndarray):
        positions = positions.astype(np.int64)  # numpy takes an empty list for floats
    if not np.issubdtype(positions.dtype, np.integer):
        raise ValueError(f"Indices must be integers, not {positions.dtype}.")
    if positions.ndim != 1:
        raise ValueError(f"Indices must be a flat sequence, not of shape {positions.shape}.")
    if positions.size and positions.max() > np.iinfo(np.int64).max:
        raise ValueError("Indices must fit 64 bits with their sign.")
    return positions


def _decode(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text, validate=True))
