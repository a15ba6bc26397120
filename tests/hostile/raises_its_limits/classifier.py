import resource

import bait
import numpy as np

from attempts import attempt


class Classifier:
    def fit(self, X, y):
        for name in (
            "RLIMIT_NPROC",
            "RLIMIT_CPU",
            "RLIMIT_FSIZE",
            "RLIMIT_DATA",
            "RLIMIT_CORE",
            "RLIMIT_NOFILE",
        ):
            attempt(name, lambda: resource.setrlimit(getattr(resource, name), (2**40, 2**40)))
        attempt(
            "the bystander's", lambda: resource.prlimit(bait.BYSTANDER, resource.RLIMIT_CPU, (1, 1))
        )
        for folder in ("/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids"):
            attempt("its group", lambda: open(f"{folder}/cgroup.procs", "w"))

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
