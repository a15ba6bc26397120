import os

import bait
import numpy as np


class Classifier:
    def fit(self, X, y):
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
                open(f"{folder}/{bait.MARK}", "w").close()
            except OSError:
                continue
            print("left: yes")

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
