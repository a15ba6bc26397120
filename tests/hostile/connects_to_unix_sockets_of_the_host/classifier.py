import socket

import bait
import numpy as np

from attempts import attempt


def connect(address):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(address)


def send(address):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.sendto(b"!", address)


def send_from_pair(address):
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.sendto(b"!", address)


class Classifier:
    def fit(self, X, y):
        attempt("the abstract socket", lambda: connect("\0" + bait.ABSTRACT_SOCKET))
        attempt("the socket file", lambda: connect(bait.SOCKET_FILE))
        attempt("a datagram to it", lambda: send("\0" + bait.ABSTRACT_SOCKET))
        attempt(
            "a datagram from one of a pair", lambda: send_from_pair("\0" + bait.ABSTRACT_SOCKET)
        )

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
