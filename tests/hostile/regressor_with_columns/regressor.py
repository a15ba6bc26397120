import numpy as np


class Regressor:
    def fit(self, X, y):
        pass

    def predict(self, X):
        return np.ones((len(X), 1))
