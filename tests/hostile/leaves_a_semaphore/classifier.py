from _multiprocessing import SemLock

import bait
import numpy as np


class Classifier:
    def fit(self, X, y):
        SemLock(1, 0, 1, f"/{bait.MARK}", False)
        print("left: yes")

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
