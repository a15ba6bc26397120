import os
import tempfile

import numpy as np


class Classifier:
    def fit(self, X, y):
        os.makedirs("a/b/c")
        open("a/b/c/file", "w").close()
        os.chmod("a/b", 0)
        tempfile.mkdtemp()
        print(tempfile.gettempdir() == os.environ["TMPDIR"])

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
