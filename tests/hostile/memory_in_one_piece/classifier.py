import numpy as np


class Classifier:
    def fit(self, X, y):
        self.block = np.ones(2**30)

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
