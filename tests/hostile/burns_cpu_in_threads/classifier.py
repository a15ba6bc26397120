import hashlib
import threading
import time

import numpy as np


class Classifier:
    def fit(self, X, y):
        block = bytes(2**26)
        for _ in range(4):
            threading.Thread(target=lambda: [hashlib.sha256(block) for _ in range(1000)]).start()

    def predict_proba(self, X):
        time.sleep(60)
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
