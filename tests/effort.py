"""How long the tests try, and whether they may do without a service that does not answer.

`make soak` runs the long forms of what a plain run does briefly.
"""

import os
import secrets
from typing import NoReturn

import pytest

IS_SOAK = bool(os.environ.get("DATARUN_SOAK"))
FACTOR = 20 if IS_SOAK else 1
# What befalls whom in the chaos test; another one each time unless given.
CHAOS_SEED = os.environ.get("DATARUN_CHAOS_SEED") or secrets.token_hex(4)


def miss(text: str) -> NoReturn:
    """Skip the test, or fail where services are insisted on."""
    if os.environ.get("DATARUN_INSIST_ON_SERVICES") == "1":
        pytest.fail(text, pytrace=False)
    pytest.skip(text)
