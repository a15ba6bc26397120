import numpy as np


class Classifier:
    def fit(self, X, y):
        self.seen = sorted(set(y))
        print(self.seen)

    def predict_proba(self, X):
        return np.tile([0.25, 0.75], (len(X), 1))
