import os
import signal
import sys

import numpy as np

from attempts import check, libc, name_process


def daemonise():
    """Leave a process that has lost its parent, its session and its descriptors."""
    ready, done = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            check(libc.prctl(1, 0, 0, 0, 0))  # PR_SET_PDEATHSIG
            name_process()
            os.chdir("/")
            os.write(done, b".")
            os.closerange(0, 1024)
            while True:
                signal.pause()
        os._exit(0)
    os.wait()
    os.read(ready, 1)
    print("daemon: started")


class Classifier:
    def fit(self, X, y):
        daemonise()
        sys.stdout.flush()
        os._exit(0)

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
