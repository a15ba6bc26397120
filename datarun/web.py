"""How gunicorn serves datarun, for `--config python:datarun.web`.

What an operator decides, the address and the number of processes, is left to the command line.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Any

from gunicorn.glogging import Logger

from datarun.environment import (
    list_secrets,
    read_log_form,
    read_web_threads,
    read_web_waiters,
)
from datarun.logs import make_formatter
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


class logger_class(Logger):  # type: ignore[misc]  # noqa: N801 - the setting's name
    """Gunicorn's own lines, in the form of all others."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        formatter = make_formatter(form=read_log_form(), secrets=list_secrets())
        for handler in self.error_log.handlers:
            handler.setFormatter(formatter)


def post_worker_init(worker: Any) -> None:
    """Let requests that wait for something new be answered when their process is to end."""
    # Not before: this module is read by the parent, which knows nothing of Django.
    from runapp.lists import long_poll

    long_poll.is_ending = lambda: not worker.alive


def on_starting(server: Any) -> None:
    """Let the processes of this web server measure requests together, in files of a folder.

    The client of Prometheus looks for the folder's name when it is imported: before the first
    process is forked, and not sooner, as this module is read by others as well.
    """
    server.metrics_folder = tempfile.mkdtemp(prefix="datarun-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = server.metrics_folder


def on_exit(server: Any) -> None:
    """Remove that folder; `serve` clears away what was left by one that was killed."""
    shutil.rmtree(server.metrics_folder, ignore_errors=True)
