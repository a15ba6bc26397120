"""The project's settings in a home of their own, made for this run and removed after it."""

import atexit
import os
import shutil
import tempfile

_home = tempfile.mkdtemp(prefix="datarun-tests-")
_maker = os.getpid()


def _remove_home() -> None:
    # Forked children run the same exit handlers; the home is not theirs.
    if os.getpid() == _maker:
        shutil.rmtree(_home, ignore_errors=True)


atexit.register(_remove_home)
os.environ["DATARUN_HOME"] = _home

from datarun.settings import *  # noqa: E402, F403

# The strong hash is tested where it matters; elsewhere it would only cost half a second a user.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
