"""How gunicorn serves datarun, for `--config python:datarun.web`.

What an operator decides, the address and the number of processes, is left to the command line.
"""

from __future__ import annotations

from typing import Any

from datarun.environment import read_web_threads, read_web_waiters
from datarun.slow_clients import post_request, pre_request

__all__ = ["post_request", "pre_request"]

# Threads, as gunicorn's own "gthread".
worker_class = "datarun.slow_clients.TimedWorker"
# Those that wait for something new sleep, and keep nobody else waiting for a thread.
threads = read_web_threads() + read_web_waiters()
# The application takes some seconds to import when every core trains folds.
timeout = 120
# A client that reuses a connection at the very moment the server drops it gets an error.
keepalive = 75
# The socket would lie in the user's own home folder.
control_socket_disable = True


def post_worker_init(worker: Any) -> None:
    """Let requests that wait for something new be answered when their process is to end."""
    # Not before: this module is read by the parent, which knows nothing of Django.
    from runapp import waiting

    waiting.is_ending = lambda: not worker.alive
