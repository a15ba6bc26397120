from multiprocessing.shared_memory import SharedMemory

import bait
import numpy as np

from attempts import call


class Classifier:
    def fit(self, X, y):
        for name, look in (
            ("a segment", lambda: call("shmget", bait.SHARED_MEMORY_KEY, 0, 0)),
            ("a named one", lambda: SharedMemory(bait.MARK)),
        ):
            try:
                look()
                print(f"found: yes, {name}")
            except OSError as error:
                print(f"found: no, {name}: {error.strerror}")

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
