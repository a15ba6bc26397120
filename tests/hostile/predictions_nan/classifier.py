import numpy as np


class Classifier:
    def fit(self, X, y):
        pass

    def predict_proba(self, X):
        p = np.full((len(X), 3), 1 / 3)
        p[7, 1] = np.nan
        return p
