"""A fork in the middle of a transaction of another thread."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
# A thread holds the write lock while the process forks; then the child writes.
SCRIPT = """
import os, sqlite3, sys, threading, time
from contextlib import nullcontext
from datarun.forks import cut_off_in_children, holding_up_forks

path, is_held_up = sys.argv[1], sys.argv[2] == "held up"
cut_off_in_children(database={"ENGINE": "django.db.backends.sqlite3"})
begun = threading.Event()

def write():
    with holding_up_forks() if is_held_up else nullcontext():
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("begin immediate")
        begun.set()
        time.sleep(0.3)
        connection.execute("commit")
        connection.close()

with sqlite3.connect(path, isolation_level=None) as first:
    first.execute("pragma journal_mode = wal")
    first.execute("create table t (x)")
first.close()
thread = threading.Thread(target=write)
thread.start()
begun.wait()
child = os.fork()
if not child:
    try:
        own = sqlite3.connect(path, isolation_level=None, timeout=2)
        own.execute("insert into t values (1)")
    except sqlite3.OperationalError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
thread.join()
"""


@pytest.mark.parametrize(
    ("how", "printed"), [("held up", ""), ("at any moment", "database is locked\n")]
)
def test_child_can_write_if_the_fork_waited(how: str, printed: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "db.sqlite3"), how],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == printed
