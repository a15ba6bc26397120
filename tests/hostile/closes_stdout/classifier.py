import os
import sys

import numpy as np


class Classifier:
    def fit(self, X, y):
        print("before")
        sys.stdout.close()
        sys.stderr.close()
        os.close(1)
        os.close(2)

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
