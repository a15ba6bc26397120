"""Platt scaling for several classes: a logistic regression on the log-probabilities."""

import numpy as np
from sklearn.linear_model import LogisticRegression

SMALLEST = 1e-3


class Calibrator:
    def __init__(self) -> None:
        self.model = LogisticRegression(C=1.0)

    def fit(self, proba: np.ndarray, y: np.ndarray) -> None:
        self.model.fit(np.log(np.clip(proba, SMALLEST, 1.0)), y)

    def predict_proba(self, proba: np.ndarray) -> np.ndarray:
        return self.model.predict_proba(np.log(np.clip(proba, SMALLEST, 1.0)))
