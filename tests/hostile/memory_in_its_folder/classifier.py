import time

import numpy as np


class Classifier:
    def fit(self, X, y):
        with open("big", "wb") as file:
            for _ in range(512):
                file.write(b"x" * 2**20)
        time.sleep(60)

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
