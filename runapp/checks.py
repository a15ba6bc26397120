"""System checks of datarun's own settings."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core import checks

from runapp.runner.promises import DEFAULT_REQUIRED, name_promises


@checks.register(checks.Tags.security, deploy=True)
def check_required_promises(**_: Any) -> list[checks.CheckMessage]:
    """Warn when workers may run folds without a promise that is required by default."""
    missing = DEFAULT_REQUIRED - settings.REQUIRED_PROMISES
    if not missing:
        return []
    return [
        checks.Warning(
            f"Workers take folds without keeping: {name_promises(missing)}.",
            hint="Add them to DATARUN_REQUIRED_PROMISES, or run only code that you trust.",
            id="datarun.W001",
        )
    ]
