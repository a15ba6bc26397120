import socket

import numpy as np

from attempts import attempt


def listen(address):
    with socket.create_server((address, 0)) as server:
        return server.getsockname()


class Classifier:
    def fit(self, X, y):
        for address in ("127.0.0.1", "0.0.0.0"):
            attempt(f"listening on {address}", lambda: listen(address))

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
