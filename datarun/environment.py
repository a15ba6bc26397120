"""Typed readers of the environment; every setting has a default that is safe."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

from runapp.runner.promises import Promise
from runapp.storage.location import BadLocation, S3Location, parse_location

env = environ.Env()


def read_whole_number(name: str, default: int, *, least: int = 0) -> int:
    """Read a whole number of at least `least`.

    Raises
    ------
    ImproperlyConfigured
        When the variable holds anything else.
    """
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise ImproperlyConfigured(f"{name} must be a whole number of at least {least}.")
    return int(text)


def read_promises(name: str, default: frozenset[Promise]) -> frozenset[Promise]:
    """Read names of promises with commas between them; an empty variable is none at all.

    Raises
    ------
    ImproperlyConfigured
        When a name is not that of a promise.
    """
    text = os.environ.get(name)
    if text is None:
        return default
    names = {word.strip() for word in text.split(",")} - {""}
    unknown = sorted(names - set(Promise))
    if unknown:
        raise ImproperlyConfigured(
            f"{name} names {', '.join(unknown)}; allowed are: {', '.join(Promise)}."
        )
    return frozenset(map(Promise, names))


def read_home(*, default: Path) -> Path:
    """Return DATARUN_HOME as an absolute path; the folder is made, for its owner alone."""
    home = Path(os.environ.get("DATARUN_HOME") or default).expanduser().absolute()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    return home


def read_secret_key(*, home: Path) -> str:
    """Return the signing key of this installation, made on first use.

    Two processes that start at once agree: the key is written to a file of its own and linked
    into place, which succeeds for one of them only.
    """
    given = os.environ.get("DATARUN_SECRET_KEY", "")
    if given:
        return given
    path = home / "secret_key"
    if not path.exists():
        draft = home / f"secret_key.{os.getpid()}.{secrets.token_hex(4)}"
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(48))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # another process was first; its key counts
        finally:
            draft.unlink()
    return path.read_text().strip()


def read_database(*, home: Path) -> dict[str, Any]:
    """Return Django's settings of the database in DATABASE_URL, or of SQLite in the home."""
    database: dict[str, Any] = env.db_url(
        "DATABASE_URL", default=f"sqlite:///{home}/datarun.sqlite3"
    )
    if database["ENGINE"].endswith("sqlite3"):
        # A transaction that starts by reading and then writes cannot wait for its lock in SQLite:
        # it fails at once, whatever the timeout. IMMEDIATE takes the write lock at BEGIN.
        database["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": (
                "PRAGMA journal_mode=WAL;PRAGMA synchronous=FULL;PRAGMA busy_timeout=20000;"
                "PRAGMA journal_size_limit=67108864;PRAGMA mmap_size=134217728;"
                "PRAGMA temp_store=MEMORY;"
            ),
        }
        database["CONN_MAX_AGE"] = None
        database["TEST"] = {"NAME": str(home / "test.sqlite3")}
    return database


def read_storage(*, home: Path) -> tuple[Path, S3Location | None]:
    """Return the folder in which blobs are read, and the object store it is a cache of, if any.

    DATARUN_STORAGE_URL names either (`file:///...`, `s3://...`); by default it is a folder in
    the home.

    Raises
    ------
    ImproperlyConfigured
        When the URL cannot be understood.
    """
    url = os.environ.get("DATARUN_STORAGE_URL", "").strip()
    if not url:
        return home / "storage", None
    try:
        location = parse_location(url)
    except BadLocation as error:
        raise ImproperlyConfigured(f"DATARUN_STORAGE_URL {error}") from error
    return (location, None) if isinstance(location, Path) else (home / "cache", location)
