"""A check that the commands share."""

from __future__ import annotations

from django.core.management.base import CommandError
from django.db import Error, connection


def check_tables_exist() -> None:
    """Raise CommandError when the database does not answer or has not been set up."""
    try:
        tables = connection.introspection.table_names()
    except Error as error:
        cause = " ".join(str(error).split())
        raise CommandError(f"The database does not answer: {cause}") from error
    if "knox_authtoken" not in tables:
        raise CommandError(
            "The database has no tables yet; start serve once, or run manage.py migrate."
        )
