"""Check everything that an installation needs on this machine, and say what to do."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from runapp.monitoring.doctor import Entry, examine
from runapp.monitoring.health import Level


class Command(BaseCommand):
    """Print a line for each thing looked at; the exit status is 1 when one is a FAIL."""

    help = __doc__ or ""
    # What it would refuse to start for is told as a finding.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print a JSON list instead")

    def handle(self, *args: Any, **options: Any) -> None:
        entries = []
        for entry in examine():
            entries.append(entry)
            if not options["json"]:
                self.stdout.write(show(entry))
        if options["json"]:
            self.stdout.write(json.dumps([to_json(entry) for entry in entries]))
        failed = [entry.name for entry in entries if entry.finding.level is Level.FAIL]
        if failed:
            raise CommandError(f"Failed: {', '.join(failed)}.")


def show(entry: Entry) -> str:
    """Return a finding in one line."""
    finding = entry.finding
    cause = f" ({finding.cause})" if finding.cause else ""
    advice = f" -> {finding.advice}" if finding.advice else ""
    return f"{finding.level.upper():5}{entry.name}: {finding.sentence}{cause}{advice}"


def to_json(entry: Entry) -> dict[str, str]:
    return {"name": entry.name, **asdict(entry.finding)}
