import numpy as np


class Classifier:
    def fit(self, X, y):
        raise ValueError("nul \0, half a pair \ud800, \x1b[31mred")

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
