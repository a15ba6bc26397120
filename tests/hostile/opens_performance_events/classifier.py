import ctypes

import numpy as np

from attempts import attempt_call, call


class Classifier:
    def fit(self, X, y):
        attempt_call(
            "perf", lambda: call("perf_event_open", (ctypes.c_uint32 * 16)(1, 64), 0, -1, -1, 0)
        )
        attempt_call("userfaultfd", lambda: call("userfaultfd", 1))

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
