"""The README's first session, run as it stands against a server of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
# A process of its own: stopping the server of the demo makes its process deaf to signals.
RUN = """
import sys
from test_files.demo_server import serving

with serving() as server:
    session = sys.stdin.read().replace(sys.argv[1], repr(server.credentials))
    exec(compile(session, "README.md", "exec"), {})
"""


def test_first_session_of_the_readme_prints_predictions() -> None:
    (session,) = re.findall(r"```python\n(.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL)
    (server,) = re.findall(r"^server = (.*)$", session, re.MULTILINE)

    done = subprocess.run(
        [sys.executable, "-c", RUN, server],
        cwd=PROJECT,
        input=session,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    state, figures, *predictions = done.stdout.splitlines()
    assert state.startswith("TESTED None")
    assert re.fullmatch(r"[\d.]+ s to train, [\d.]+ kB at most", figures)
    assert len(predictions) == 3
