import fcntl

import numpy as np


class Classifier:
    def fit(self, X, y):
        with open(np.__file__, "rb") as file:
            print("found:", "no" if fcntl.fcntl(file, fcntl.F_GETLEASE) == fcntl.F_UNLCK else "yes")

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
