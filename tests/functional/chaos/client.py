"""A client that goes on through everything: it posts, polls, cancels and forces."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import requests

from test_files import post_api
from test_files.examples import IRIS
from tests.effort import FACTOR
from tests.functional.account import FINISHED, POLL_SECONDS, Account, Row, write_submission

TRAIN_IS = range(60)
N_CODES = 4
MOST_UNFINISHED = 12
MOST_FOLDS = 400 * FACTOR
ANSWER_SECONDS = 120.0
SETTLE_SECONDS = 90.0
PAUSE_SECONDS = 0.2

# It holds a process of its own while it fits, and what it predicts tells its number.
CODE = """
import subprocess
import time

from sklearn.ensemble import RandomForestClassifier


class Classifier:
    def fit(self, X, y):
        child = subprocess.Popen(["sleep", "1000"])
        self.model = RandomForestClassifier(n_estimators=3, random_state={number}).fit(X, y)
        time.sleep({fit:.2f})
        child.kill()
        child.wait()

    def predict_proba(self, X):
        time.sleep({predict:.2f})
        return self.model.predict_proba(X)
"""


@dataclass
class Wish:
    """A fold as the client wants it: its code's number, and how it may end."""

    fold_id: int
    submission: int
    code: int
    ends: frozenset[str] = frozenset({"TESTED"})
    # How it has ended, since it was last wanted.
    ended: str | None = None


@dataclass
class Client:
    """One account, which never gives up a request that got no answer."""

    account: Account
    random: Random
    raw_data_id: int = 0
    wishes: dict[int, Wish] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    stopping: threading.Event = field(default_factory=threading.Event)

    def call(self, send: Callable[[], requests.Response]) -> tuple[requests.Response, bool]:
        """Send until there is an answer; return it, and whether it took several tries."""
        deadline = time.monotonic() + ANSWER_SECONDS
        tries = 0
        while True:
            tries += 1
            try:
                response = send()
            except requests.RequestException:
                self.statuses[0] += 1
            else:
                self.statuses[response.status_code] += 1
                if response.status_code != 503:
                    return response, tries > 1
                assert response.headers.get("Retry-After"), "a 503 says when to come back"
            assert time.monotonic() < deadline, f"no answer in {tries} tries"
            time.sleep(PAUSE_SECONDS)

    def prepare(self) -> None:
        """Post the dataset and have it split, before anything happens."""
        self.raw_data_id = self.account.post_example(IRIS)
        self.account.wait_for_split(self.raw_data_id)

    def train_calmly(self) -> dict[int, Row]:
        """Return the finished fold of each code."""
        folds = {
            self.account.post_code(
                self.raw_data_id, CODE.format(number=code, fit=0, predict=0), train_is=TRAIN_IS
            ): code
            for code in range(N_CODES)
        }
        rows = self.account.wait_for_folds(folds)
        return {code: rows[fold_id] for fold_id, code in folds.items()}

    def work(self) -> None:
        """Do one thing after the other until told to stop."""
        while not self.stopping.is_set():
            self.poll()
            unfinished = [wish for wish in self.wishes.values() if wish.ended is None]
            if len(unfinished) < MOST_UNFINISHED and len(self.wishes) < MOST_FOLDS:
                self.post()
            chance = self.random.random()
            if self.wishes and chance < 0.1:
                self.cancel(self.random.choice(list(self.wishes.values())))
            elif self.wishes and chance < 0.2:
                self.force(self.random.choice(list(self.wishes.values())))
            self.stopping.wait(POLL_SECONDS)

    def settle(self) -> None:
        """Poll until every fold has ended."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while unfinished := [w.fold_id for w in self.wishes.values() if w.ended is None]:
            assert time.monotonic() < deadline, f"folds {unfinished} never end"
            self.poll()
            time.sleep(POLL_SECONDS)

    def poll(self) -> None:
        """Read all states; what has ended stays so until it is wanted again."""
        response, _ = self.call(
            lambda: post_api.get_submission_fold_light(*self.account.credentials)
        )
        for row in _check(response, {200}):
            wish = self.wishes.get(row["databoard_sf_id"])
            if wish is None:
                continue
            if wish.ended is not None:
                assert row["state"] == wish.ended, (wish, row)
            elif row["state"] in FINISHED:
                wish.ended = row["state"]

    def post(self) -> None:
        """Post a fold of a submission of its own."""
        wish = Wish(
            fold_id=self.account.number(),
            submission=self.account.number(),
            code=self.random.randrange(N_CODES),
        )
        response, was_retried = self._send(wish, force=None)
        if response.status_code == 400 and was_retried:
            # The first try had been stored; only its answer was lost.
            assert response.json()["errors"][0]["code"] == "unique", response.text
        else:
            _check(response, {201})
        self.wishes[wish.fold_id] = wish

    def force(self, wish: Wish) -> None:
        """Post a fold again, half of the time with other code."""
        force = "submission_fold"
        if self.random.random() < 0.5:
            wish.code = (wish.code + 1) % N_CODES
            force = "submission, submission_fold"
        response, _ = self._send(wish, force=force)
        _check(response, {201})
        wish.ends, wish.ended = frozenset({"TESTED"}), None

    def cancel(self, wish: Wish) -> None:
        """Cancel a fold unless it has ended."""
        response, was_retried = self.call(
            lambda: self.account.send("DELETE", f"submissionfold/{wish.fold_id}/")
        )
        _check(response, {200, 202, 409})
        if response.status_code != 409:
            wish.ends, wish.ended = frozenset({"cancelled"}), "ERROR"
        elif was_retried and wish.ended is None:
            wish.ends |= {"cancelled"}

    def read_rows(self, fold_ids: Iterable[int]) -> dict[int, Row]:
        """Return the folds' rows with all that they hold."""
        return {fold_id: self.account.read_fold(fold_id) for fold_id in fold_ids}

    def _send(self, wish: Wish, *, force: str | None) -> tuple[requests.Response, bool]:
        code = CODE.format(
            number=wish.code,
            fit=self.random.choice([0, 0.3, 1, 2]),
            predict=self.random.choice([0, 0.2]),
        )
        folder = self.account.folder / f"{self.account.username}-code"
        files = write_submission(folder, {"classifier": code})
        with_files = force != "submission_fold"
        priority = self.random.choice("HL")
        return self.call(
            lambda: post_api.post_submission_fold(
                *self.account.credentials,
                wish.submission,
                wish.fold_id,
                TRAIN_IS,
                [0],
                priority=priority,
                raw_data_id=self.raw_data_id if with_files else None,
                list_submission_files=files if with_files else None,
                force=force,
            )
        )


def _check(response: requests.Response, allowed: set[int]) -> Any:
    assert response.status_code in allowed, f"{response.status_code} {response.text[:2000]}"
    return response.json() if response.content else None
