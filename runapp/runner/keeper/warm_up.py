"""What every child does first, done once in the keeper so that its children need not learn it.

Python 3.11 rewrites its bytecode while the code warms up (PEP 659), and libraries fill caches at
first use. Done in each child, that copies hundreds of the keeper's pages a fold.
"""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier

from runapp.runner.data import dataframes

# Code is rewritten at its eighth call.
REPETITIONS = 10


def rehearse() -> None:
    """Map a frame and fit one tree to it, without any thread, BLAS or OpenMP.

    A tree takes the way through scikit-learn's checks that every estimator takes.
    """
    frame = pd.DataFrame({"a": [0.0, 1.0], "b": [1.0, 0.0]})
    labels = np.array(["x", "y"], dtype=object)
    for _ in range(REPETITIONS):
        X = _store_and_map(frame).to_numpy()
        forest = RandomForestClassifier(n_estimators=1, random_state=0, n_jobs=1)
        forest.fit(X, labels).predict_proba(X)


def _store_and_map(frame: pd.DataFrame) -> pd.DataFrame:
    with os.fdopen(os.memfd_create("rehearsal"), "wb") as file:
        dataframes.write_frame(frame, file)
        file.flush()
        return dataframes.map_frame(file.fileno())
