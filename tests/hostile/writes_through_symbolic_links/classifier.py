import os

import bait
import numpy as np

from attempts import attempt


def swap():
    os.rename("submission", "gone")
    os.symlink(bait.OUTSIDE, "submission")
    with open("submission/new", "w") as file:
        file.write("!")


class Classifier:
    def fit(self, X, y):
        for path in (f"{bait.OUTSIDE}/file", f"{bait.OUTSIDE}/new"):
            os.symlink(path, "link")
            attempt("writing through a link", lambda: open("link", "w"))
            os.unlink("link")
        # Opened and no more: where nothing holds it back, these must not come to harm.
        for path in ("/etc/passwd", np.__file__):
            os.symlink(path, "link")
            attempt("opening through a link", lambda: os.close(os.open("link", os.O_WRONLY)))
            os.unlink("link")
        os.symlink(bait.OUTSIDE, "folder")
        attempt("a file through a link to a folder", lambda: open("folder/new", "w"))
        attempt("a link in the place of its code", lambda: swap())

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
