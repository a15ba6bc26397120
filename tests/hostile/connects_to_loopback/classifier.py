import socket

import bait
import numpy as np

from attempts import attempt


def connect(kind, port):
    with socket.socket(socket.AF_INET, kind) as connection:
        connection.settimeout(1)
        connection.connect(("127.0.0.1", port))
        connection.send(b"!")
        return port


class Classifier:
    def fit(self, X, y):
        attempt("TCP", lambda: connect(socket.SOCK_STREAM, bait.TCP_PORT))
        attempt("UDP", lambda: connect(socket.SOCK_DGRAM, bait.UDP_PORT))

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
