"""What an installation needs to do its work, looked at piece by piece.

For whoever asks: a load balancer (`views/health.py`), a collector of metrics, `manage.py doctor`.
What is found is told in a sentence that shows no secret and no path, so that anybody may read it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

from django.conf import settings
from django.db import Error, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from runapp.common.exceptions import StorageAway
from runapp.scheduling.dispatch import REFUSALS
from runapp.scheduling.live_workers import list_live_workers
from runapp.storage import RemoteStorage
from runapp.storage.configured import get_storage

# No dataset has a name like it.
_NOTHING = "probe"


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """What was found of one piece.

    Parameters
    ----------
    sentence : str
        What is so.
    advice : str, optional
        What an operator does about it; empty where nothing is to be done.
    cause : str, optional
        The system's own words, which may name hosts and paths: for operators only.
    """

    level: Level
    sentence: str
    advice: str = ""
    cause: str = ""


@dataclass(frozen=True)
class Room:
    """The disk below a folder, in bytes."""

    free_bytes: int
    total_bytes: int


def check_database() -> Finding:
    """Look whether the database answers and takes changes."""
    try:
        takes_changes = _takes_changes()
    except Error as error:
        return _miss_database(error)
    if not takes_changes:
        advice = (
            "Check whether it is a standby or was made read-only. Until then, nothing is trained."
        )
        return Finding(Level.FAIL, "The database is read-only.", advice)
    return Finding(Level.OK, f"{connection.display_name} answers.")


def _takes_changes() -> bool:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SHOW transaction_read_only")
            return bool(cursor.fetchone()[0] == "off")
        cursor.execute("SELECT 1")
        return os.access(connection.settings_dict["NAME"], os.W_OK)


def check_migrations() -> Finding:
    """Look whether the database has the tables and columns that this code expects."""
    try:
        applied = MigrationRecorder(connection).applied_migrations()
    except Error as error:
        return _miss_database(error)
    pending = [f"{app}.{name}" for app, name in _list_leaves() if (app, name) not in applied]
    if pending:
        sentence = f"The database is missing migrations: {', '.join(pending)}."
        return Finding(Level.FAIL, sentence, "Run manage.py migrate.")
    return Finding(Level.OK, "The database has all migrations.")


def _miss_database(error: Error) -> Finding:
    sentence = "The database does not answer."
    return Finding(Level.FAIL, sentence, "Start it, or correct DATABASE_URL.", _quote(error))


def _quote(error: BaseException) -> str:
    return " ".join(str(error).split())


@cache
def _list_leaves() -> tuple[tuple[str, str], ...]:
    # The last migration of each app: the files do not change while a process lives.
    return tuple(sorted(MigrationLoader(None, ignore_no_migrations=True).graph.leaf_nodes()))


def check_broker() -> Finding:
    """Look whether hints can be put on the queue."""
    if settings.CELERY_BROKER_URL.startswith("filesystem"):
        return _check_broker_folder()
    from datarun.celery import app

    try:
        with app.connection_for_write() as broker:
            # Twice, as there may be several of which one lives, and without a pause.
            broker.ensure_connection(max_retries=1, interval_start=0)
    except REFUSALS as error:
        advice = "Start it, or correct CELERY_BROKER_URL. Idle slots take no work until it is back."
        return Finding(Level.FAIL, "The broker does not answer.", advice, _quote(error))
    return Finding(Level.OK, "The broker answers.")


def _check_broker_folder() -> Finding:
    try:
        settings.BROKER_FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
        _try_folder(settings.BROKER_FOLDER)
    except OSError as error:
        advice = "Free some space, or correct the permissions of DATARUN_HOME."
        sentence = "The broker's folder is not writable."
        return Finding(Level.FAIL, sentence, advice, _quote(error))
    return Finding(Level.OK, "The broker's folder is writable.")


def check_storage() -> Finding:
    """Look whether blobs can be stored: write and read in a folder, ask an object store."""
    storage = get_storage()
    try:
        if isinstance(storage, RemoteStorage):
            storage.objects.measure(_NOTHING)
            return Finding(Level.OK, "The object store answers.")
        settings.STORAGE_ROOT.mkdir(mode=0o700, parents=True, exist_ok=True)
        _try_folder(settings.STORAGE_ROOT)
    except (OSError, StorageAway) as error:
        advice = "Check that it exists, has room and accepts this account (DATARUN_STORAGE_URL)."
        cause = _quote(error.__cause__ or error)
        return Finding(Level.FAIL, "The storage refuses or does not answer.", advice, cause)
    return Finding(Level.OK, "The storage can be written and read.")


def _try_folder(folder: Path) -> None:
    # Without a name: whatever happens meanwhile, nothing stays behind.
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(_NOTHING.encode())
        file.seek(0)
        if file.read() != _NOTHING.encode():
            raise OSError("it did not return what was written")


def list_rooms() -> dict[str, Room]:
    """Return the room on the disks that this machine writes to, by what lies there."""
    places = {"home": settings.DATARUN_HOME}
    if settings.STORAGE_REMOTE is None:
        places["storage"] = settings.STORAGE_ROOT
    rooms = {}
    for name, path in places.items():
        # The storage is made when something is stored.
        usage = shutil.disk_usage(path if path.exists() else settings.DATARUN_HOME)
        rooms[name] = Room(free_bytes=usage.free, total_bytes=usage.total)
    return rooms


def check_disk() -> Finding:
    """Look whether the disks of this machine have the room that the settings ask for."""
    least = settings.LEAST_FREE_BYTES
    try:
        rooms = list_rooms()
    except OSError as error:
        advice = "Check that the home and the storage are mounted."
        sentence = "The disks cannot be checked."
        return Finding(Level.FAIL, sentence, advice, _quote(error))
    told = ", ".join(f"{name} {room.free_bytes // 2**20} MB" for name, room in rooms.items())
    scarce = [room for room in rooms.values() if room.free_bytes < least]
    if scarce:
        sentence = f"Free disk: {told}; less than {least // 2**20} MB."
        advice = "Free some space (manage.py prune), or lower DATARUN_LEAST_FREE_MB."
        return Finding(Level.FAIL, sentence, advice)
    if any(room.free_bytes < 2 * least for room in rooms.values()):
        return Finding(Level.WARN, f"Free disk: {told}.", "Free some space soon (manage.py prune).")
    return Finding(Level.OK, f"Free disk: {told}.")


def check_workers() -> Finding:
    """Look whether a worker lives, where slots are wanted."""
    if settings.SLOTS == 0:
        return Finding(Level.OK, "No slots are configured (DATARUN_SLOTS).")
    try:
        n_live = list_live_workers().count()
    except Error:
        return Finding(Level.FAIL, "Workers cannot be checked without the database.")
    if not n_live:
        advice = "Start one (manage.py worker), or set DATARUN_SLOTS=0 if none is expected."
        return Finding(Level.FAIL, "No worker is live.", advice)
    return Finding(Level.OK, f"{n_live} {'worker is' if n_live == 1 else 'workers are'} live.")


# What is needed to take work and to do it.
NEEDS = {
    "database": check_database,
    "migrations": check_migrations,
    "broker": check_broker,
    "storage": check_storage,
    "disk": check_disk,
    "workers": check_workers,
}
