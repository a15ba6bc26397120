"""The application's configuration."""

from typing import Any

from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate


class RunappConfig(AppConfig):
    name = "runapp"
    verbose_name = "datarun"

    def ready(self) -> None:
        # Registers the checks, and connects the receivers that remove a deleted dataset's files,
        # stop a disabled account's work, and write down sign-ins and changes of accounts.
        # In this order: what may take the clock's lock comes last.
        # isort: off
        import runapp.checks
        import runapp.audit.account_changes
        import runapp.scheduling.disabled_accounts
        import runapp.datasets.raw_data
        import runapp.datasets.sharing
        import runapp.audit.sign_ins  # noqa: F401

        # isort: on
        post_migrate.connect(make_clock, sender=self)


def make_clock(using: str, apps: Any = apps, **rest: object) -> None:
    """Make the clock's row, also where all tables have just been emptied."""
    try:
        clock = apps.get_model("runapp", "Clock")
    except LookupError:  # migrated back to before there was one
        return
    clock.objects.using(using).get_or_create(pk=1)
