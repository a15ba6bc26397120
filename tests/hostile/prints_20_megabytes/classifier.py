import sys

import numpy as np


class Classifier:
    def fit(self, X, y):
        print("the first line")
        line = "x" * 1023 + "\n"
        for _ in range(20 * 1024):
            sys.stdout.write(line)
        print("the last line")

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
