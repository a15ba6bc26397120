import os
import signal

import bait
import numpy as np

from attempts import attempt, check, libc


def kill(number, signal_number):
    if number == 0:
        raise OSError("it has no number here")
    os.kill(number, signal_number)


def tkill(number, signal_number):
    check(libc.syscall({"x86_64": 200, "aarch64": 130}[os.uname().machine], number, signal_number))


class Classifier:
    def fit(self, X, y):
        for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP):
            attempt("the parent", lambda: kill(os.getppid(), number))
            attempt("the bystander", lambda: kill(bait.BYSTANDER, number))
            attempt("the bystander by a thread", lambda: tkill(bait.BYSTANDER, number))
            attempt("the bystander's group", lambda: os.killpg(os.getpgid(bait.BYSTANDER), number))
        attempt("the bystander by a descriptor", lambda: os.pidfd_open(bait.BYSTANDER))

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
