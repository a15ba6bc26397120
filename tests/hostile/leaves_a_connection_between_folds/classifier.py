import os
import socket

import numpy as np


class Classifier:
    def fit(self, X, y):
        reading, writing = os.pipe()
        os.write(writing, b"left")
        one, _ = socket.socketpair()
        one.send(b"left")
        for _ in range(100):
            os.set_inheritable(os.dup(reading), True)
        print("left: yes")

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
