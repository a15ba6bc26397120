"""Show and set an account's quotas."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.table import Table

from runapp.accounts.quota_use import Measure, Standing, read_allowance, read_standing
from runapp.accounts.quotas import set_quota
from runapp.common.exceptions import InvalidInput
from runapp.management.tables import check_tables_exist

# What an option is when it was not given; "none" is None.
_STAYS = -1


class Command(BaseCommand):
    """Print an account's quotas and what is used of them, after setting some."""

    help = __doc__ or ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        for name in settings.QUOTAS:
            parser.add_argument(
                f"--{name.replace('_', '-')}",
                metavar="N|none",
                type=read_limit,
                default=_STAYS,
                help="a whole number (0 allows nothing), or 'none' to use the setting",
            )

    def handle(self, *args: Any, name: str, **options: Any) -> None:
        check_tables_exist()
        account = User.objects.filter(username=User.normalize_username(name)).first()
        if account is None:
            raise CommandError(f"There is no account {name!r}.")
        changes = {key: options[key] for key in settings.QUOTAS if options[key] != _STAYS}
        if changes:
            try:
                set_quota(account=account, changes=changes)
            except InvalidInput as error:
                raise CommandError(error.message) from error
        standing = read_standing(
            owner=account, allowance=read_allowance(owner=account), measures=tuple(Measure)
        )
        self.stdout.write(show(standing), ending="")


def read_limit(text: str) -> int | None:
    """Return an option's number, None for "none"; argparse tells of a ValueError."""
    if text == "none":
        return None
    if not text.isascii() or not text.isdigit():
        raise ValueError
    return int(text)


def show(standing: Standing) -> str:
    """Return limits and use as aligned text."""
    table = Table(box=None, pad_edge=False, header_style="")
    for head in ("quota", "limit", "used"):
        table.add_column(head, no_wrap=True)
    for measure in Measure:
        limit = standing.allowance.limits.get(measure)
        table.add_row(
            measure, "unlimited" if limit is None else str(limit), _show_use(standing, measure)
        )
    console = Console(highlight=False, markup=False, width=200, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def _show_use(standing: Standing, measure: Measure) -> str:
    if measure is not Measure.SUBMISSIONS_PER_DAY:
        return str(standing.use.get(measure, raw_data_id=0))
    counts = sorted(standing.use.submissions.items())
    return ", ".join(f"{count} to dataset {key}" for key, count in counts) or "0"
