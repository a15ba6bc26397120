import bait
import numpy as np

from attempts import attempt_call, call, check, libc


class Classifier:
    def fit(self, X, y):
        attempt_call("shared memory", lambda: call("shmget", bait.SHARED_MEMORY_KEY, 4096, 0o1666))
        attempt_call("semaphores", lambda: check(libc.semget(bait.SHARED_MEMORY_KEY, 1, 0o1666)))
        attempt_call("messages", lambda: check(libc.msgget(bait.SHARED_MEMORY_KEY, 0o1666)))
        attempt_call(
            "a message queue", lambda: call("mq_open", bait.MARK.encode(), 0o102, 0o666, None)
        )

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
