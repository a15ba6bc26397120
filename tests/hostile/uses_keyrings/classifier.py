import bait
import numpy as np

from attempts import attempt_call, call


class Classifier:
    def fit(self, X, y):
        attempt_call("a key", lambda: call("add_key", b"user", bait.MARK.encode(), b"x", 1, -4))
        attempt_call("the user's keyring", lambda: call("keyctl", 0, -4, 1))
        attempt_call("a session", lambda: call("keyctl", 1, bait.MARK.encode()))

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
