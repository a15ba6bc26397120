import numpy as np
from sklearn.linear_model import LogisticRegression


class Classifier:
    def fit(self, X, y):
        LogisticRegression().fit(np.full((3, 2), np.nan), [0, 1, 0])

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
