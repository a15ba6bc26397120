"""How long the tests try: `make soak` runs the long forms of what a plain run does briefly."""

import os

IS_SOAK = bool(os.environ.get("DATARUN_SOAK"))
FACTOR = 20 if IS_SOAK else 1
