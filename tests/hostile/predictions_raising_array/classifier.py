class Raising:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("no array for you")


class Classifier:
    def fit(self, X, y):
        pass

    def predict_proba(self, X):
        return Raising()
