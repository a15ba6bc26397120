"""Changes the folds behind the server's back, as workers and clients would."""

from __future__ import annotations

from collections.abc import Mapping

from bench.databases import execute

_TICK = "UPDATE runapp_clock SET value = value + 1"
_CHANGE = """
    UPDATE runapp_submissionfold SET change_seq = (SELECT value FROM runapp_clock)
    WHERE id IN (SELECT id FROM runapp_submissionfold ORDER BY id LIMIT {count})
"""
_RENEW = """
    UPDATE runapp_submissionfold SET "new" = TRUE
    WHERE phase = 'done' AND databoard_sf_id >= {first}
"""


def change_folds(environment: Mapping[str, str], *, count: int) -> int:
    """Number some folds anew; return the number of the change before."""
    (clock,) = execute(
        environment, _TICK, _CHANGE.format(count=count), "SELECT value FROM runapp_clock"
    )
    return int(clock) - 1


def renew_predictions(environment: Mapping[str, str], *, first: int) -> None:
    """Let the finished folds from an id on be new again."""
    execute(environment, _RENEW.format(first=first), "SELECT 1")
