import os

import bait
import numpy as np

from attempts import attempt_call, check, libc


class Classifier:
    def fit(self, X, y):
        attempt_call("the parent", lambda: check(libc.ptrace(0x4206, os.getppid(), None, None)))
        attempt_call("the first process", lambda: check(libc.ptrace(0x4206, 1, None, None)))
        attempt_call(
            "the bystander", lambda: check(libc.ptrace(0x4206, bait.BYSTANDER, None, None))
        )
        attempt_call("being traced", lambda: check(libc.ptrace(0, 0, None, None)))
        attempt_call("a tracer of one's own", lambda: check(libc.prctl(0x59616D61, -1, 0, 0, 0)))

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
