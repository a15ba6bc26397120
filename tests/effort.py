"""How long the tests try: `make soak` runs the long forms of what a plain run does briefly."""

import os
import secrets

IS_SOAK = bool(os.environ.get("DATARUN_SOAK"))
FACTOR = 20 if IS_SOAK else 1
# What befalls whom in the chaos test; another one each time unless given.
CHAOS_SEED = os.environ.get("DATARUN_CHAOS_SEED") or secrets.token_hex(4)
