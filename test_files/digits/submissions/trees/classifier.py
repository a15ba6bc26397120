"""Twenty extremely randomised trees on the raw pixels."""

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier


class Classifier:
    def __init__(self) -> None:
        self.model = ExtraTreesClassifier(n_estimators=20, random_state=57, n_jobs=1)

    def fit(self, X: np.ndarray, y: np.ndarray) -> None:
        self.model.fit(X, y)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return self.model.predict_proba(X)
