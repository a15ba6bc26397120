class Classifier:
    def fit(self, X, y):
        pass

    def predict_proba(self, X):
        return 0.5
