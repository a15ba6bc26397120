import os
import signal
import socket

import bait
import numpy as np

from attempts import name_process


class Classifier:
    def fit(self, X, y):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind("\0" + bait.MARK)
        listener.listen()
        if os.fork() == 0:
            name_process()
            while True:
                signal.pause()
        print("left: yes")

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
