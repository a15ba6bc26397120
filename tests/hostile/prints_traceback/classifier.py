import json
import traceback

import numpy as np


class Classifier:
    def fit(self, X, y):
        try:
            json.loads("[")
        except ValueError:
            traceback.print_exc()

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
