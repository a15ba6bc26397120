"""Test which promises a worker on this machine keeps, and print the results."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.table import Table

from runapp.execution.fitness import examine_worker
from runapp.runner.selftest.promises import SelfTest, name_promises


class Command(BaseCommand):
    """Try to break every promise; the exit status is 0 when those that are required hold."""

    help = __doc__ or ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object instead")

    def handle(self, *args: Any, **options: Any) -> None:
        self_test = examine_worker()
        if options["json"]:
            required = sorted(settings.REQUIRED_PROMISES)
            found = {**self_test.to_json(), "kept": sorted(self_test.kept), "required": required}
            self.stdout.write(json.dumps(found))
        else:
            self.stdout.write(show(self_test), ending="")
        broken = self_test.list_broken(settings.REQUIRED_PROMISES)
        if broken:
            raise CommandError(
                f"Required but not kept: {name_promises(finding.promise for finding in broken)}. "
                "A worker takes no work here. DATARUN_REQUIRED_PROMISES sets what is required."
            )


def show(self_test: SelfTest) -> str:
    """Return the findings as text for a terminal."""
    console = Console(highlight=False, markup=False)
    with console.capture() as capture:
        console.print(make_table(self_test))
        for name, value in (
            ("level", self_test.level),
            ("measured by", self_test.measured_by),
            ("versions", ", ".join(f"{name} {text}" for name, text in self_test.versions.items())),
            *(("not a higher level, because", reason) for reason in self_test.reasons),
        ):
            console.print(f"{name}: {value}")
    return capture.get()


def make_table(self_test: SelfTest) -> Table:
    """Return a row for each promise."""
    table = Table("promise", "kept", "mechanism", "detail")
    for finding in self_test.findings:
        is_required = finding.promise in settings.REQUIRED_PROMISES
        table.add_row(
            f"{finding.promise}{' (required)' if is_required else ''}",
            "yes" if finding.is_kept else "NO",
            finding.mechanism,
            finding.detail,
        )
    return table
