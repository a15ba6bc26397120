"""A check that the commands share."""

from __future__ import annotations

from django.core.management.base import CommandError
from django.db import connection


def check_tables_exist() -> None:
    """Raise CommandError when the database has not been set up."""
    if "knox_authtoken" not in connection.introspection.table_names():
        raise CommandError(
            "The database has no tables yet; start serve once, or run manage.py migrate."
        )
