import fcntl
import mmap
import os
import stat

import numpy as np

from attempts import attempt


def find_files():
    for number in range(3, 1024):
        try:
            if stat.S_ISREG(os.fstat(number).st_mode):
                yield number
        except OSError:
            continue


class Classifier:
    def fit(self, X, y):
        number, *_ = find_files()
        path = f"/proc/self/fd/{number}"
        for name, act in (
            ("opening it anew", lambda: os.open(path, os.O_RDWR)),
            ("emptying it", lambda: os.truncate(path, 0)),
            ("emptying it by its descriptor", lambda: os.ftruncate(number, 0)),
            ("writing at its descriptor", lambda: os.pwrite(number, b"!", 0)),
            ("room in it", lambda: os.posix_fallocate(number, 0, 2**20)),
            ("its mode", lambda: os.fchmod(number, 0o777)),
            ("its mode by its path", lambda: os.chmod(path, 0o777)),
            ("its times", lambda: os.utime(number, (0, 0))),
            ("its owner", lambda: os.fchown(number, os.getuid(), os.getgid())),
            ("an attribute", lambda: os.setxattr(number, "user.hostile", b"!")),
            ("a lock", lambda: fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)),
            ("a lock of a range", lambda: fcntl.lockf(number, fcntl.LOCK_SH)),
            ("a lease", lambda: fcntl.fcntl(number, fcntl.F_SETLEASE, fcntl.F_RDLCK)),
            ("a mark", lambda: fcntl.ioctl(number, 0x40086602, b"\x10" + bytes(7))),
            (
                "a mapping to write to",
                lambda: mmap.mmap(number, 0, mmap.MAP_SHARED, mmap.PROT_WRITE),
            ),
        ):
            attempt(name, act)

    def predict_proba(self, X):
        return np.tile([0.25, 0.25, 0.5], (len(X), 1))
