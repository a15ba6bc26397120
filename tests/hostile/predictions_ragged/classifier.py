class Classifier:
    def fit(self, X, y):
        pass

    def predict_proba(self, X):
        return [[0.5] * (1 + number % 3) for number in range(len(X))]
