import ctypes

import numpy as np

from attempts import attempt_call, call


class Classifier:
    def fit(self, X, y):
        attempt_call(
            "io_uring", lambda: call("io_uring_setup", 1, ctypes.create_string_buffer(120))
        )

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
