"""The application's configuration."""

from django.apps import AppConfig


class RunappConfig(AppConfig):
    name = "runapp"
    verbose_name = "datarun"
