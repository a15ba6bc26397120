from _multiprocessing import SemLock

import bait
import numpy as np


class Classifier:
    def fit(self, X, y):
        try:
            SemLock._rebuild(0, 1, 1, f"/{bait.MARK}")
            print("found: yes")
        except OSError:
            print("found: no")

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
