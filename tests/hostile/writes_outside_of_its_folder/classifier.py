import os
import sys

import bait
import numpy as np

from attempts import attempt


class Classifier:
    def fit(self, X, y):
        folders = [
            "/",
            "/usr",
            "/usr/bin",
            "/etc",
            "/var",
            "/proc",
            "/dev",
            "/env",
            "/python",
            "/datarun",
        ]
        folders += [
            sys.prefix,
            sys.base_prefix,
            os.path.dirname(np.__file__),
            os.path.dirname(os.__file__),
        ]
        for folder in [*folders, bait.HOME, bait.PROJECT]:
            attempt("a new file", lambda: open(os.path.join(folder, bait.MARK), "x"))
            attempt("a new folder", lambda: os.mkdir(os.path.join(folder, f"{bait.MARK}-folder")))
        # Where nothing holds it back, only the bait may come to harm: others are opened, no more.
        for path in ("/etc/passwd", np.__file__, os.__file__, "/proc/sys/kernel/hostname"):
            attempt("opening a file", lambda: os.close(os.open(path, os.O_WRONLY)))
        path = f"{bait.OUTSIDE}/file"
        attempt("writing to a file", lambda: open(path, "r+"))
        attempt("emptying a file", lambda: os.truncate(path, 0))
        attempt("replacing a file", lambda: os.replace("submission/classifier.py", path))
        attempt("removing a file", lambda: os.unlink(path))

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
