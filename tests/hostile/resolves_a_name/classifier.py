import socket

import numpy as np

from attempts import attempt


def ask():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.sendto(b"?", ("192.0.2.1", 53))


class Classifier:
    def fit(self, X, y):
        attempt("a name", lambda: socket.getaddrinfo("example.org", 80))
        attempt("a question to a name server", ask)

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
