import numpy as np


class Classifier:
    def fit(self, X, y):
        pass

    def predict_proba(self, X):
        self.calls = getattr(self, "calls", 0) + 1
        return np.full((len(X) if self.calls == 1 else 1, 3), 1 / 3)
