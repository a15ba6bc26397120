import os
import time

import numpy as np


class Classifier:
    def fit(self, X, y):
        for _ in range(32):
            with open(os.memfd_create("big"), "wb", closefd=False) as file:
                for _ in range(16):
                    file.write(b"x" * 2**20)
        time.sleep(60)

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
