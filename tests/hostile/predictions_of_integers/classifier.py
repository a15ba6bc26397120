import numpy as np


class Classifier:
    def fit(self, X, y):
        pass

    def predict_proba(self, X):
        return np.tile(np.array([1, 0, 2], dtype=np.uint8), (len(X), 1))
