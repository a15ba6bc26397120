import numpy as np


class Classifier:
    def fit(self, X, y):
        try:
            {}["first"]
        except KeyError as error:
            raise ValueError("second") from error

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
