import os

import bait
import numpy as np

from attempts import attempt

KNOWN = {"LANG", "LD_LIBRARY_PATH", "PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED"}
# Of the numerical libraries: how many threads, which kind of processor.
LIBRARIES = ("BLIS_", "JOBLIB_", "MKL_", "NUMEXPR_", "OMP_", "OPENBLAS_", "VECLIB_")


def read(number, own):
    content = open(f"/proc/{number}/environ", "rb").read()
    if content in (b"", own):
        raise OSError("it is empty, or the same")
    # Never the content: what is read here may be a secret, and a failing test shows its log.
    return f"{len(content)} bytes"


class Classifier:
    def fit(self, X, y):
        own = open("/proc/self/environ", "rb").read()
        names = {line.partition(b"=")[0].decode() for line in own.split(b"\0") if line}
        print("its own:", *sorted(name for name in names - KNOWN if not name.startswith(LIBRARIES)))
        attempt("the first process", lambda: read("1", own))
        attempt("the parent", lambda: read(os.getppid(), own))
        attempt("the bystander", lambda: read(bait.BYSTANDER, own))
        for number in filter(str.isdigit, os.listdir("/proc")):
            attempt("a visible process", lambda: read(number, own))

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
