"""Makes clients read their lists anew."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from runapp.changes.feed import begin_epoch
from runapp.management.tables import check_tables_exist


class Command(BaseCommand):
    help = (
        "Invalidate all cursors and ETags that clients hold, so that they read their lists again. "
        "Run this after restoring a backup, because changes are then numbered a second time."
    )

    def handle(self, **options: Any) -> None:
        check_tables_exist()
        begin_epoch()
        self.stdout.write("A new epoch has begun: clients will read their lists again.")
