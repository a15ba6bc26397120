"""The stable codes with which a fold or a split may end in error."""

from __future__ import annotations

from runapp.runner.contract import Outcome

ERROR_CODES = sorted(
    {outcome.value for outcome in Outcome if not outcome.is_ours}
    - {Outcome.TESTED.value, Outcome.STOPPED.value}
    | {"cancelled", "split_error", "worker_lost", "internal_error"}
)
