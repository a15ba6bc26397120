import numpy as np


class Mute(Exception):
    def __str__(self):
        raise RuntimeError


class Classifier:
    def fit(self, X, y):
        raise Mute

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
