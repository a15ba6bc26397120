"""The pool of database connections, which is for the web server alone.

A pool is threads and sockets, neither of which survives a fork: a child that closes its parent's
pool ends the parent's sessions. Workers and commands have one thread that uses the database at a
time, so a connection that is closed after use serves them as well.
"""

from __future__ import annotations

from django.conf import settings


def pool_connections() -> None:
    """Let the threads of this process share a pool, where the database is one that has them."""
    if settings.WEB_POOL:
        settings.DATABASES["default"]["OPTIONS"]["pool"] = settings.WEB_POOL
