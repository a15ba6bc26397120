import os

import bait
import numpy as np

from attempts import attempt


class Classifier:
    def fit(self, X, y):
        attempt("niceness", lambda: os.nice(-5))
        attempt("priority of itself", lambda: os.setpriority(os.PRIO_PROCESS, 0, -20))
        attempt("priority of a user", lambda: os.setpriority(os.PRIO_USER, 0, -1))
        attempt("priority of a group", lambda: os.setpriority(os.PRIO_PGRP, 0, -1))
        attempt(
            "priority of the bystander", lambda: os.setpriority(os.PRIO_PROCESS, bait.BYSTANDER, 10)
        )
        attempt("real time", lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)))
        attempt("another's processors", lambda: os.sched_setaffinity(bait.BYSTANDER, {0}))
        attempt(
            "the last to be killed", lambda: open("/proc/self/oom_score_adj", "w").write("-1000")
        )

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
