"""The application's configuration."""

from django.apps import AppConfig


class RunappConfig(AppConfig):
    name = "runapp"
    verbose_name = "datarun"

    def ready(self) -> None:
        # Registers the checks, and connects the receiver that removes a deleted dataset's files,
        # whoever deletes it.
        import runapp.checks
        import runapp.services.raw_data  # noqa: F401
