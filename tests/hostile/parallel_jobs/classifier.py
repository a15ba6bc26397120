import os

import numpy as np
from joblib import Parallel, delayed


def work(number):
    return number * number, os.getpid()


class Classifier:
    def fit(self, X, y):
        made = Parallel(n_jobs=2)(delayed(work)(number) for number in range(4))
        assert [square for square, _ in made] == [0, 1, 4, 9]
        assert os.getpid() not in {pid for _, pid in made}
        big = Parallel(n_jobs=2)(delayed(np.sum)(block) for block in [np.ones(2**18)] * 2)
        assert big == [2**18] * 2

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
