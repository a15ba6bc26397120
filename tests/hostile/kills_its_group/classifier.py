import os
import signal

import numpy as np


class Classifier:
    def fit(self, X, y):
        os.killpg(0, signal.SIGSEGV)

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
