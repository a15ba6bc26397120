import socket

import bait
import numpy as np


class Classifier:
    def fit(self, X, y):
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.connect("\0" + bait.MARK)
            print("found: yes")
        except OSError:
            print("found: no")

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
