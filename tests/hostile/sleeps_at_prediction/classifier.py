import time


class Classifier:
    def fit(self, X, y):
        pass

    def predict_proba(self, X):
        time.sleep(1000)
