import numpy as np

from attempts import attempt_call, call, check, libc


class Classifier:
    def fit(self, X, y):
        attempt_call("an older kernel's", lambda: check(libc.personality(0x0020000)))
        attempt_call("no random addresses", lambda: check(libc.personality(0x0040000)))
        attempt_call("its segments", lambda: call("modify_ldt", 1, bytes(16), 16))
        attempt_call("ports", lambda: call("iopl", 3))

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
