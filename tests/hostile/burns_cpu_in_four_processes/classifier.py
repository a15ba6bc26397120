import os
import time

import numpy as np

from attempts import name_process


class Classifier:
    def fit(self, X, y):
        for _ in range(4):
            if os.fork() == 0:
                name_process()
                while time.process_time() < 0.9:
                    pass
                os._exit(0)
        for _ in range(4):
            os.wait()
        time.sleep(60)

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
