import numpy as np


class Classifier:
    def fit(self, X, y):
        print("\x1b[31mred\x1b[0m \x07bell \x9b 2J")

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
