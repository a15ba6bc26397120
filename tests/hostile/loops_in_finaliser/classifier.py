import time

import numpy as np


class Undying:
    def __del__(self):
        while True:
            time.sleep(0.01)


class Classifier:
    def fit(self, X, y):
        Undying()

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
