import os
import time

import numpy as np


class Classifier:
    def fit(self, X, y):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.chdir("/")
                print("process", os.getpid(), flush=True)
                os.closerange(0, 4096)
                time.sleep(1000)
            os._exit(0)
        os.wait()

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
