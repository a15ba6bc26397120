import os
import signal

import numpy as np

from attempts import name_process


class Classifier:
    def fit(self, X, y):
        for _ in range(3):
            if os.fork() == 0:
                name_process()
                os.kill(os.getpid(), signal.SIGSTOP)
        print("stopped: all")

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
