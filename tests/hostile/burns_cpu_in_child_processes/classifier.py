import os
import time

import numpy as np


class Classifier:
    def fit(self, X, y):
        if os.fork() == 0:
            while True:
                pass
        time.sleep(60)

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
