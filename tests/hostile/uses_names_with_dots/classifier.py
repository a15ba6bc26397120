import os

import bait
import numpy as np

from attempts import attempt


class Classifier:
    def fit(self, X, y):
        for folder in ("..", "../..", "../../../../../..", "/.."):
            attempt(folder, lambda: open(f"{folder}/{bait.MARK}", "x"))
        os.mkdir("...")
        os.mkdir("... /")
        for name in (".. ", "..\n", "-rf", "~", "*", b"\xff\xfe"):
            open(name, "w").close()
        deep = "x/" * 500
        os.makedirs(deep)

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
