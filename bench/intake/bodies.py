"""What is posted: submissions with small files of their own and some folds each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from test_files import post_api

FOLDS_OF_SUBMISSION = 5
N_INDICES = 80
# Of iris, less the held-out part.
N_ROWS = 120
HELD_OUT = 0.2
# It keeps a slot busy for as long as anybody measures.
_SUBMISSION = """\
import time

import numpy as np

NUMBER = {number}


class Classifier:
    def fit(self, X, y):
        self.n_classes = len(set(y))
        end = time.process_time() + 60
        while time.process_time() < end:
            pass

    def predict_proba(self, X):
        return np.full((len(X), self.n_classes), 1 / self.n_classes)
"""


class Bodies:
    """Makes bodies of posts, none of them twice."""

    def __init__(self, raw_data_id: int) -> None:
        self._raw_data_id = raw_data_id
        self._numbers = itertools.count(1)

    def make_submissions(self, n_folds: int) -> list[list[dict[str, Any]]]:
        """Return the bodies of so many folds at least, those of each submission together."""
        count = -(-n_folds // FOLDS_OF_SUBMISSION)
        return [list(self._make_folds(number)) for number in itertools.islice(self._numbers, count)]

    def _make_folds(self, submission: int) -> Iterator[dict[str, Any]]:
        random = np.random.default_rng(submission)
        code = post_api.encode_file(_SUBMISSION.format(number=submission).encode())
        for number in range(FOLDS_OF_SUBMISSION):
            rows = random.permutation(N_ROWS)
            body: dict[str, Any] = {
                "databoard_sf_id": submission * FOLDS_OF_SUBMISSION + number,
                "databoard_s_id": submission,
                "train_is": post_api.encode_indices(rows[:N_INDICES]),
                "test_is": post_api.encode_indices(rows[N_INDICES:]),
            }
            if number == 0:
                # They need to come once.
                body |= {"raw_data": self._raw_data_id, "files": {"classifier.py": code}}
            yield body
