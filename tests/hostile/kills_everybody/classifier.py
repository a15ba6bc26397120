import os
import signal

import numpy as np

from attempts import attempt


class Classifier:
    def fit(self, X, y):
        # In earnest only where it is itself the first: elsewhere these would be the host's.
        number = signal.SIGKILL if os.getpid() == 1 else 0
        attempt("all", lambda: os.kill(-1, number))
        attempt("the first process", lambda: os.kill(1, number))
        print("went on: yes")

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
