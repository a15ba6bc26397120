import os

import numpy as np

from attempts import attempt


def make(name):
    open(name, "w").close()
    return name


class Classifier:
    def fit(self, X, y):
        attempt("a sparse file", lambda: os.truncate(make("sparse"), 2**34))
        attempt(
            "room set aside", lambda: os.posix_fallocate(os.open(make("room"), os.O_RDWR), 0, 2**34)
        )
        attempt("a byte far away", lambda: os.pwrite(os.open(make("far"), os.O_RDWR), b"!", 2**34))

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
