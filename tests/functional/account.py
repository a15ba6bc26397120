"""An account of a service and what its owner does there, over HTTP and with the client module."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import requests

from test_files import local, post_api
from test_files.examples import RANDOM_STATE, Example

FINISHED = ("TESTED", "ERROR")
FOLD_SECONDS = 90.0
POLL_SECONDS = 0.05

Row = dict[str, Any]
Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass
class Account:
    """One who posts datasets and folds and reads what came of them."""

    host_url: str
    username: str
    password: str
    folder: Path
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def credentials(self) -> tuple[str, str, str]:
        """The first three arguments of every function of the client module."""
        return self.host_url, self.username, self.password

    def number(self) -> int:
        """Return an id that this account has not used."""
        return next(self.numbers)

    def send(self, method: str, path: str, body: Any = None) -> requests.Response:
        """Ask what the client module has no function for."""
        return requests.request(
            method,
            f"{self.host_url}runapp/{path}",
            auth=(self.username, self.password),
            json=body,
            timeout=post_api.TIMEOUT_SECONDS,
        )

    def post_example(self, example: Example) -> int:
        """Post one of the example datasets and ask for its split; return its id."""
        raw_data_id = self.post_dataset(
            name=example.name,
            target=example.target,
            elements=example.elements,
            files=[example.data_file, *example.extra_files],
        )
        if example.held_out_test is None:
            self.ask_for_custom_split(raw_data_id)
        else:
            self.ask_for_split(raw_data_id, held_out_test=example.held_out_test)
        return raw_data_id

    def post_dataset(
        self,
        *,
        name: str,
        target: str,
        elements: str,
        files: list[Path],
        limits: Mapping[str, float] | None = None,
    ) -> int:
        """Post a dataset; return its id."""
        response = post_api.post_data(
            *self.credentials, name, target, elements, files[0], files[1:] or None
        )
        raw_data_id = int(check(response, status=201)["id"])
        if limits:
            check(self.send("PATCH", f"rawdata/{raw_data_id}/", {"limits": dict(limits)}))
        return raw_data_id

    def ask_for_split(
        self, raw_data_id: int, *, held_out_test: float = 0.3, random_state: int = RANDOM_STATE
    ) -> None:
        check(post_api.post_split(*self.credentials, held_out_test, raw_data_id, random_state))

    def ask_for_custom_split(self, raw_data_id: int) -> None:
        check(post_api.custom_post_split(*self.credentials, raw_data_id))

    def read_dataset(self, raw_data_id: int) -> Row:
        row: Row = check(self.send("GET", f"rawdata/{raw_data_id}/"))
        return row

    def wait_for_split(self, raw_data_id: int, *, state: str = "READY") -> Row:
        """Wait until a dataset is split, or has failed to be."""
        deadline = time.monotonic() + FOLD_SECONDS
        while (row := self.read_dataset(raw_data_id))["state"] not in ("READY", "ERROR"):
            assert time.monotonic() < deadline, f"dataset {row['name']} is still {row['state']}"
            time.sleep(POLL_SECONDS)
        assert row["state"] == state, row
        return row

    def ask_for_folds(self, raw_data_id: int, *, n_splits: int = 2) -> list[tuple[Rows, Rows]]:
        folds = check(
            self.send(
                "POST",
                f"rawdata/{raw_data_id}/folds/",
                {"n_splits": n_splits, "random_state": RANDOM_STATE},
            )
        )
        return [
            (post_api.decode_indices(fold["train_is"]), post_api.decode_indices(fold["test_is"]))
            for fold in folds
        ]

    def post_fold(
        self,
        *,
        raw_data_id: int,
        files: list[Path],
        train_is: npt.ArrayLike,
        test_is: npt.ArrayLike = (0,),
        submission: int | None = None,
        fold: int | None = None,
        priority: str = "L",
        force: str | None = None,
    ) -> int:
        """Post a fold with its submission's files; return the fold's id."""
        fold_id = self.number() if fold is None else fold
        response = post_api.post_submission_fold(
            *self.credentials,
            self.number() if submission is None else submission,
            fold_id,
            np.asarray(train_is),
            np.asarray(test_is),
            priority=priority,
            raw_data_id=raw_data_id,
            list_submission_files=files,
            force=force,
        )
        check(response, status=201)
        return fold_id

    def post_code(self, raw_data_id: int, code: str | Mapping[str, str], **options: Any) -> int:
        """Post a fold of a submission written here; `code` is the classifier unless named."""
        sources = {"classifier": code} if isinstance(code, str) else code
        folder = self.folder / f"{self.username}-code-{self.number()}"
        files = write_submission(folder, sources)
        return self.post_fold(raw_data_id=raw_data_id, files=files, **options)

    def read_fold(self, fold_id: int) -> Row:
        row: Row = check(post_api.get_submission_fold_detail(*self.credentials, fold_id))
        return row

    def read_states(self) -> dict[int, str]:
        rows = check(post_api.get_submission_fold_light(*self.credentials))
        return {row["databoard_sf_id"]: row["state"] for row in rows}

    def wait_for_folds(
        self, fold_ids: Iterable[int], *, seconds: float = FOLD_SECONDS
    ) -> dict[int, Row]:
        """Wait until all of the folds have finished; return their rows by id."""
        wanted = set(fold_ids)
        deadline = time.monotonic() + seconds
        while True:
            states = self.read_states()
            unfinished = {n: states[n] for n in wanted if states[n] not in FINISHED}
            if not unfinished:
                return {fold_id: self.read_fold(fold_id) for fold_id in sorted(wanted)}
            assert time.monotonic() < deadline, f"folds are still {unfinished}"
            time.sleep(POLL_SECONDS)

    def wait_for_fold(self, fold_id: int, *, seconds: float = FOLD_SECONDS) -> Row:
        """Wait until a fold has finished; return its row."""
        return self.wait_for_folds([fold_id], seconds=seconds)[fold_id]

    def wait_until_running(self, fold_id: int, *, attempt: int = 1) -> Row:
        """Wait until a fold has been taken up by a worker for that time."""
        deadline = time.monotonic() + FOLD_SECONDS
        while True:
            row = self.read_fold(fold_id)
            if row["attempt"] >= attempt and row["started_at"] and not row["finished_at"]:
                return row
            assert row["state"] not in FINISHED, row
            assert time.monotonic() < deadline, f"fold {fold_id} does not start: {row}"
            time.sleep(POLL_SECONDS)


def write_submission(folder: Path, sources: Mapping[str, str]) -> list[Path]:
    """Write a submission's files, one for each element."""
    folder.mkdir(exist_ok=True)
    for element, source in sources.items():
        (folder / f"{element}.py").write_text(source)
    return sorted(folder.glob("*.py"))


def check(response: requests.Response, *, status: int = 200) -> Any:
    """Return the answer to a request that must have succeeded."""
    assert response.status_code == status, f"{response.status_code} {response.text[:2000]}"
    return response.json()


def read_predictions(row: Row) -> tuple[Floats, Floats]:
    """Return the predictions of a row: of the train part and of the test part."""
    train, test = (
        post_api.decode_predictions(row[f"{part}_predictions"], row[f"{part}_predictions_shape"])
        for part in ("full_train", "test")
    )
    return train, test


def assert_same_bits(row: Row, expected: tuple[Floats, Floats]) -> None:
    """Check that a tested fold predicted just this, to the last bit."""
    assert row["state"] == "TESTED", (row["error_code"], row["log_messages"])
    for made, wanted in zip(read_predictions(row), expected, strict=True):
        assert made.shape == wanted.shape
        assert made.tobytes() == wanted.tobytes()


def train_example_locally(
    example: Example, submission: Path, train_is: npt.ArrayLike
) -> tuple[Floats, Floats]:
    """Train as a data scientist does, without any server."""
    if example.held_out_test is None:
        return local.train_specific_locally(
            folder=example.folder,
            files=example.files,
            submission_path=submission,
            train_is=train_is,
        )
    return local.train_locally(
        csv_path=example.data_file,
        target_column=example.target,
        workflow_elements=example.elements,
        submission_path=submission,
        held_out_test=example.held_out_test,
        random_state=RANDOM_STATE,
        train_is=train_is,
    )
