import os

import numpy as np


class Classifier:
    def fit(self, X, y):
        os.write(1, b"caf\xe9 \xff\xfe\n")

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
