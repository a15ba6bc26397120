import os

import numpy as np


class Classifier:
    def fit(self, X, y):
        line = b"x" * (2**20 - 1) + b"\n"
        for _ in range(200):
            os.write(1, line)
        print("the last line")

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
