import os

import numpy as np

from attempts import attempt_call, call


class Classifier:
    def fit(self, X, y):
        os.makedirs("here/there")
        attempt_call("chroot", lambda: os.chroot("here"))
        attempt_call("pivot_root", lambda: call("pivot_root", b"here", b"here/there"))
        attempt_call("a file by its handle", lambda: call("open_by_handle_at", -100, bytes(64), 0))

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
