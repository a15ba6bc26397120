import os

import bait
import numpy as np

from attempts import attempt_call, check, libc


def enter(path):
    if not os.path.exists(path):
        raise PermissionError(1, "it is not there")
    check(libc.setns(os.open(path, os.O_RDONLY), 0))


class Classifier:
    def fit(self, X, y):
        for number in ("1", "self", str(bait.BYSTANDER)):
            for name in ("user", "mnt", "net", "pid", "ipc", "uts", "cgroup"):
                attempt_call("entering", lambda: enter(f"/proc/{number}/ns/{name}"))
        attempt_call(
            "by a process", lambda: check(libc.setns(os.pidfd_open(os.getpid()), 0x10000000))
        )

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
