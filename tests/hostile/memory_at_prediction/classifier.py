import numpy as np


class Classifier:
    def fit(self, X, y):
        pass

    def predict_proba(self, X):
        self.block = np.ones(2**30)
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
