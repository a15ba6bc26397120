"""Check the configuration, then run a worker on this machine."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import Error, connections

from runapp.checks import list_local_parts
from runapp.scheduling.live_workers import list_live_workers

# With the machine's name and a slot's number it must fit into a row.
MOST_LETTERS = 100


class Command(BaseCommand):
    """Run a worker until SIGTERM, which gives its folds back after the grace."""

    help = __doc__ or ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--slots",
            type=int,
            default=settings.SLOTS,
            help="how many folds to run at once (DATARUN_SLOTS)",
        )
        parser.add_argument(
            "--name", default=None, help="a unique name; derived from host and home by default"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        slots, name = options["slots"], options["name"] or make_name(home=settings.DATARUN_HOME)
        if slots < 1:
            raise CommandError("A worker needs at least one slot (--slots, DATARUN_SLOTS).")
        if not name.isprintable() or any(letter in name for letter in " /@%,"):
            raise CommandError("A worker's name must not contain spaces or any of / @ % and comma.")
        if len(name) > MOST_LETTERS:
            raise CommandError(f"A worker's name must have at most {MOST_LETTERS} characters.")
        check_hosts()
        command = make_worker_command(slots=slots, name=name)
        os.chdir(settings.BASE_DIR)
        # No process stays between a supervisor's signals and Celery.
        os.execv(command[0], command)  # noqa: S606 - a list, and no shell is wanted


def check_hosts() -> None:
    """Raise CommandError when this machine would not have before it what workers elsewhere have."""
    host, parts = socket.gethostname(), list_local_parts()
    if not parts:
        return
    try:
        others = list_live_workers().exclude(host=host).values_list("host", flat=True)
        found = sorted(set(others))
    except Error:
        return  # it is away or has no tables yet: the worker waits for it
    finally:
        connections.close_all()
    if found:
        raise CommandError(
            f"Workers are running on {', '.join(found)}, and {host} must share their data, but "
            f"{'; '.join(parts)}. Set these variables to the same values on all machines."
        )


def make_name(*, home: Path, kind: str = "worker") -> str:
    """Return a name for the worker of a home: two homes of one host have two."""
    digest = hashlib.sha256(str(home).encode()).hexdigest()
    return f"{kind}-{digest[:6]}"


def make_worker_command(*, slots: int, name: str) -> tuple[str, ...]:
    """Return Celery's command: as many pool processes as slots, and no talk among workers.

    Where Flower may listen, which a broker of files cannot serve, they send it their heartbeat.
    """
    is_of_files = settings.CELERY_BROKER_URL.startswith("filesystem:")
    return (
        *(sys.executable, "-m", "celery", "--quiet", "--app", "datarun", "worker"),
        *("--hostname", f"{name}@{socket.gethostname()}"),
        *("--pool", "prefork", "--concurrency", str(slots), "--loglevel", "INFO"),
        *("--without-gossip", "--without-mingle"),
        *(["--without-heartbeat"] if is_of_files else []),
    )
