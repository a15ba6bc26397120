"""Logistic regression."""

import numpy as np
from sklearn.linear_model import LogisticRegression


class Classifier:
    def __init__(self) -> None:
        self.model = LogisticRegression(C=1.0)

    def fit(self, X: np.ndarray, y: np.ndarray) -> None:
        self.model.fit(X, y)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return self.model.predict_proba(X)
