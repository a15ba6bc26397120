import numpy as np
from scipy.sparse import csr_matrix


class Classifier:
    def fit(self, X, y):
        pass

    def predict_proba(self, X):
        return csr_matrix(np.full((len(X), 3), 1 / 3))
