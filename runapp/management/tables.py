"""What the commands share: a check of the database's tables, and tables to look at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from django.core.management.base import CommandError
from django.db import Error, connection
from rich.console import Console
from rich.table import Table


def check_tables_exist() -> None:
    """Raise CommandError when the database does not answer or has not been set up."""
    try:
        tables = connection.introspection.table_names()
    except Error as error:
        cause = " ".join(str(error).split())
        raise CommandError(f"The database does not answer: {cause}") from error
    if "runapp_accesstoken" not in tables:
        raise CommandError(
            "The database has no tables yet. Start serve once, or run manage.py migrate."
        )


def show_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows as aligned text, as wide as it needs to be."""
    table = Table(box=None, pad_edge=False, header_style="")
    for head in heads:
        table.add_column(head, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False, markup=False, width=400, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())
