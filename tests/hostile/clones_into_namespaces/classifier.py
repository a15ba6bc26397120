import ctypes
import os

import numpy as np

from attempts import attempt_call, call, check, libc


def clone(flags):
    child = call("clone", flags | 17, 0, 0, 0, 0)
    if child == 0:
        libc._exit(0)
    os.waitpid(child, 0)
    return "cloned"


def clone3():
    arguments = (ctypes.c_uint64 * 11)(0x10000000, 0, 0, 0, 17)
    child = check(libc.syscall(435, arguments, 88))
    if child == 0:
        libc._exit(0)
    os.waitpid(child, 0)
    return "cloned"


class Classifier:
    def fit(self, X, y):
        for name, flag in (("user", 0x10000000), ("mount", 0x00020000), ("pid", 0x20000000)):
            attempt_call(name, lambda: clone(flag))
        attempt_call("clone3", clone3)
        attempt_call("a brother of its own", lambda: clone(0x00008000))

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
