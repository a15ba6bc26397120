"""System checks of datarun's own settings."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks

from runapp.runner.selftest.promises import DEFAULT_REQUIRED, name_promises

BROKERS = ("filesystem", "amqp", "amqps", "redis", "rediss")


@checks.register()
def check_settings_agree(**_: Any) -> list[checks.CheckMessage]:
    """Refuse settings that cannot work together."""
    messages: list[checks.CheckMessage] = []
    if settings.HEARTBEAT_SECONDS * 2 > settings.LEASE_SECONDS:
        messages.append(
            checks.Error(
                f"Workers send a heartbeat every {settings.HEARTBEAT_SECONDS} s, but a claim is "
                f"valid for {settings.LEASE_SECONDS} s only: one late heartbeat would lose a fold.",
                hint="Make DATARUN_LEASE_SECONDS at least twice DATARUN_HEARTBEAT_SECONDS.",
                id="datarun.E001",
            )
        )
    # Several, of which one is used, stand with semicolons between them.
    if not all(map(_is_broker, settings.CELERY_BROKER_URL.split(";"))):
        messages.append(
            checks.Error(
                "CELERY_BROKER_URL does not name a broker that datarun supports.",
                hint="Use amqp://user:password@host:5672/vhost or redis://host:6379/0, "
                "or leave it empty.",
                id="datarun.E002",
            )
        )
    return messages


def _is_broker(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # is a number, or raises
    except ValueError:
        return False
    database = parts.path.strip("/")
    is_numbered = not database or database.isdecimal()
    return parts.scheme in BROKERS and (is_numbered or not parts.scheme.startswith("redis"))


def list_local_parts() -> list[str]:
    """Return what of this installation only processes of this machine can reach."""
    parts = []
    if is_database_local():
        parts.append("the database is SQLite (DATABASE_URL)")
    if settings.CELERY_BROKER_URL.startswith("filesystem"):
        parts.append("the broker is a folder (CELERY_BROKER_URL)")
    # Of a remote storage the home holds a cache only.
    is_in_home = settings.STORAGE_ROOT.is_relative_to(settings.DATARUN_HOME)
    if settings.STORAGE_REMOTE is None and is_in_home:
        parts.append("the storage is in the home (DATARUN_STORAGE_URL)")
    return parts


def is_database_local() -> bool:
    """Tell whether the database is a file, which processes of this machine alone can share."""
    engine: str = settings.DATABASES["default"]["ENGINE"]
    return engine.endswith("sqlite3")


@checks.register(checks.Tags.security, deploy=True)
def check_required_promises(**_: Any) -> list[checks.CheckMessage]:
    """Warn when workers may run folds without a promise that is required by default."""
    missing = DEFAULT_REQUIRED - settings.REQUIRED_PROMISES
    if not missing:
        return []
    return [
        checks.Warning(
            f"Workers take folds without keeping these promises: {name_promises(missing)}.",
            hint="Add them to DATARUN_REQUIRED_PROMISES, or run only code that you trust.",
            id="datarun.W001",
        )
    ]
