import bait
import numpy as np

from attempts import attempt_call, call


class Classifier:
    def fit(self, X, y):
        attempt_call("a key", lambda: call("add_key", b"user", bait.MARK.encode(), b"left", 4, -4))
        attempt_call(
            "a key of the session",
            lambda: call("add_key", b"user", bait.MARK.encode(), b"left", 4, -3),
        )

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
