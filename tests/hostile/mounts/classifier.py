import ctypes
import os

import numpy as np

from attempts import attempt_call, call, check, libc


class Classifier:
    def fit(self, X, y):
        os.mkdir("here")
        for name, source, kind, flags in (
            ("a file system of its own", b"none", b"tmpfs", 0),
            ("the processes", b"proc", b"proc", 0),
            ("the kernel's", b"none", b"sysfs", 0),
            ("a binding", b"/usr", None, 4096),
            ("another root, writable", b"none", None, 4096 | 32),
        ):
            target = b"/" if "root" in name else b"here"
            attempt_call(
                name, lambda: check(libc.mount(source, target, kind, ctypes.c_ulong(flags), None))
            )
        attempt_call("unmounting", lambda: check(libc.umount2(b"here", 2)))
        attempt_call("by fsopen", lambda: call("fsopen", b"tmpfs", 0))
        attempt_call("by open_tree", lambda: call("open_tree", -100, b"/", 1))

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
