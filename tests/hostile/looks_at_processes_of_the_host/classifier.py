import os

import bait
import numpy as np

from attempts import attempt


def look(path):
    if path.endswith(("cwd", "root", "exe")):
        return os.readlink(path)
    return os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(1)


class Classifier:
    def fit(self, X, y):
        numbers = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
        print("visible:", numbers)
        for name in ("cmdline", "status", "cwd", "root", "exe", "fd", "maps", "mem", "stack"):
            attempt(f"the bystander's {name}", lambda: look(f"/proc/{bait.BYSTANDER}/{name}"))

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
