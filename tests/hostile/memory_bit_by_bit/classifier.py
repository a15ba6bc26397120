import numpy as np


class Classifier:
    def fit(self, X, y):
        self.blocks = []
        while True:
            self.blocks.append(bytearray(2**20))

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
