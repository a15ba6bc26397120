import ctypes

import numpy as np

from attempts import attempt_call, call


class Classifier:
    def fit(self, X, y):
        attempt_call("bpf", lambda: call("bpf", 0, (ctypes.c_uint32 * 4)(2, 4, 8, 1), 16))
        attempt_call("a module", lambda: call("init_module", b"", 0, b""))
        attempt_call("a module's file", lambda: call("finit_module", 0, b"", 0))
        attempt_call("another kernel", lambda: call("kexec_load", 0, 0, 0, 0))
        attempt_call("a reboot", lambda: call("reboot", 0, 0, 0, 0))
        attempt_call("its log", lambda: call("syslog", 3, ctypes.create_string_buffer(16), 16))

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
