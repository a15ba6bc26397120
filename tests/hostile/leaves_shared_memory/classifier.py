from multiprocessing.shared_memory import SharedMemory

import bait
import numpy as np

from attempts import attempt_call, call


class Classifier:
    def fit(self, X, y):
        attempt_call("a segment", lambda: call("shmget", bait.SHARED_MEMORY_KEY, 4096, 0o1666))
        try:
            SharedMemory(bait.MARK, create=True, size=4096)
        except OSError as error:
            print("refused: a named one:", error.strerror)
        print("left: what could be")

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
