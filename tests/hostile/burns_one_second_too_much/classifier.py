import time

import numpy as np


class Classifier:
    def fit(self, X, y):
        while time.process_time() < 60:
            pass

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
