import os
import time

import numpy as np


class Classifier:
    def fit(self, X, y):
        while True:
            if (child := os.fork()) == 0:
                while time.process_time() < 0.2:
                    pass
                os._exit(0)
            os.waitpid(child, 0)

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
