import os
import signal
import time

import numpy as np

from attempts import name_process


class Classifier:
    def fit(self, X, y):
        for _ in range(5):
            if os.fork() == 0:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                name_process()
                print("orphan: started", flush=True)
                time.sleep(1000)

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
