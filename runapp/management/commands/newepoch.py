"""Makes clients read their lists anew."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from runapp.changes.feed import begin_epoch
from runapp.management.tables import check_tables_exist


class Command(BaseCommand):
    help = (
        "Make every cursor and ETag that clients have worthless, so that they read their lists "
        "anew; to be run after a backup was restored, as changes are then numbered again."
    )

    def handle(self, **options: Any) -> None:
        check_tables_exist()
        begin_epoch()
        self.stdout.write("a new epoch has begun: clients read their lists anew")
