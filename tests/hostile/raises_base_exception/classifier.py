import numpy as np


class Odd(BaseException):
    pass


class Classifier:
    def fit(self, X, y):
        raise Odd("no Exception")

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
