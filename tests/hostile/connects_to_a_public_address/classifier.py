import errno
import os
import socket

import numpy as np

from attempts import attempt


def connect(family, kind, address):
    with socket.socket(family, kind) as connection:
        connection.setblocking(False)
        number = connection.connect_ex((address, 80))
        if number not in (0, errno.EINPROGRESS):
            raise OSError(number, os.strerror(number))
        return "on its way"


class Classifier:
    def fit(self, X, y):
        for family, address in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
            attempt(f"TCP to {address}", lambda: connect(family, socket.SOCK_STREAM, address))
            attempt(f"UDP to {address}", lambda: connect(family, socket.SOCK_DGRAM, address))

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
