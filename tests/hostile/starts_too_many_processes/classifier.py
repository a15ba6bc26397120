import os
import signal

import numpy as np

from attempts import name_process


class Classifier:
    def fit(self, X, y):
        n_started = 0
        try:
            while n_started < 100:
                if os.fork() == 0:
                    name_process()
                    while True:
                        signal.pause()
                n_started += 1
        except OSError as error:
            print("refused: another process:", error.strerror)
        print("few enough:", n_started <= 16)

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
