import os

import bait
import numpy as np


class Classifier:
    def fit(self, X, y):
        seen = []
        for folder in (
            "/tmp",
            "/var/tmp",
            "/dev/shm",
            ".",
            "..",
            "/",
            "/var",
            os.environ["TMPDIR"],
        ):
            try:
                seen += [name for name in os.listdir(folder) if name.startswith(bait.MARK)]
            except OSError:
                continue
        print("found:", "yes" if seen else "no")

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
