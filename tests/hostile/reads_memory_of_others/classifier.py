import ctypes
import os

import bait
import numpy as np

from attempts import attempt_call, call


class Classifier:
    def fit(self, X, y):
        target = ctypes.create_string_buffer(8)
        here = (ctypes.c_size_t * 2)(ctypes.addressof(target), 8)
        there = (ctypes.c_size_t * 2)(id(None), 8)
        for name, number in (
            ("itself", os.getpid()),
            ("its parent", os.getppid()),
            ("another", bait.BYSTANDER),
        ):
            attempt_call(
                f"reading {name}", lambda: call("process_vm_readv", number, here, 1, there, 1, 0)
            )
            attempt_call(
                f"writing {name}", lambda: call("process_vm_writev", number, here, 1, there, 1, 0)
            )
            attempt_call(f"comparing {name}", lambda: call("kcmp", number, os.getpid(), 0, 0, 0))
        attempt_call(
            "a descriptor of another", lambda: call("pidfd_getfd", os.pidfd_open(os.getpid()), 0, 0)
        )

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
