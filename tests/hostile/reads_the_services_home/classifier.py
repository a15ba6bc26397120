import os
import sqlite3

import bait
import numpy as np

from attempts import attempt


def look(path):
    return os.listdir(path) if os.path.isdir(path) else open(path, "rb").read()


def ask():
    try:
        return sqlite3.connect(f"{bait.HOME}/db.sqlite3").execute("select * from labels").fetchall()
    except sqlite3.OperationalError as error:
        raise OSError(str(error)) from error


class Classifier:
    def fit(self, X, y):
        for name in ("secret_key", "db.sqlite3", "."):
            attempt(name, lambda: look(os.path.join(bait.HOME, name)))
        attempt("the database", ask)

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
