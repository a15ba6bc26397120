import atexit
import threading
import time

import numpy as np


def loop():
    while True:
        time.sleep(0.01)


class Undying:
    def __del__(self):
        loop()


atexit.register(loop)
undying = Undying()


class Classifier:
    def fit(self, X, y):
        threading.Thread(target=loop).start()

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
