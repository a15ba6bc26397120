import os
import sys

import bait
import numpy as np
from sklearn.tree import DecisionTreeClassifier


class Classifier:
    def fit(self, X, y):
        np.median = np.corrcoef = lambda *_: "forged"
        DecisionTreeClassifier.fit = lambda self, *_: self
        sys.modules[bait.MARK] = sys
        os.environ["HOSTILE"] = "left"
        np.random.seed = None
        print("left: yes")

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
