import time

import numpy as np

from attempts import attempt, check, libc, name_process


class Classifier:
    def fit(self, X, y):
        attempt("no death signal", lambda: check(libc.prctl(1, 0, 0, 0, 0)))
        name_process()
        time.sleep(1000)

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
