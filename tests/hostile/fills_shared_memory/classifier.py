import numpy as np


def fill(folder):
    n_written = 0
    try:
        for number in range(64):
            with open(f"{folder}/{number}", "wb", buffering=0) as file:
                for _ in range(8):
                    n_written += file.write(bytes(2**20))
    except OSError as error:
        print(f"refused: more in {folder}: {error.strerror}")
    print("megabytes:", round(n_written / 2**20))


class Classifier:
    def fit(self, X, y):
        fill("/dev/shm")

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
