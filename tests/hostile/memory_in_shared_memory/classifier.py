import time
from multiprocessing.shared_memory import SharedMemory

import numpy as np


class Classifier:
    def fit(self, X, y):
        self.block = SharedMemory(create=True, size=2**29)
        for start in range(0, 2**29, 2**20):
            self.block.buf[start : start + 2**20] = b"x" * 2**20
        time.sleep(60)

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
