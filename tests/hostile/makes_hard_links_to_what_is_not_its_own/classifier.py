import os

import bait
import numpy as np

from attempts import attempt


class Classifier:
    def fit(self, X, y):
        for path in (
            "/etc/passwd",
            "/usr/bin/env",
            np.__file__,
            f"{bait.OUTSIDE}/file",
            "/proc/self/exe",
        ):
            attempt("a hard link", lambda: os.link(path, "mine", follow_symlinks=True))
            attempt(
                "a hard link out", lambda: os.link("submission/classifier.py", f"/var/{bait.MARK}")
            )
        attempt(
            "a move into another folder", lambda: os.rename("submission", f"{bait.OUTSIDE}/new")
        )

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
