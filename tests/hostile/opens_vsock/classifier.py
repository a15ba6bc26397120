import socket

import numpy as np

from attempts import attempt_call


class Classifier:
    def fit(self, X, y):
        attempt_call(
            "a socket to the hypervisor", lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        )

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
