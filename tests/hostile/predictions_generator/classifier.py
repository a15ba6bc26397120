import numpy as np


class Classifier:
    def fit(self, X, y):
        pass

    def predict_proba(self, X):
        return (row for row in np.full((len(X), 3), 1 / 3))
