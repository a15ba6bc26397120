"""The one table of state changes of a submission fold.

A fold has a public `State` and an internal `Phase`. The phase drives (who may claim, renew,
record, cancel); the state tells the client how far the work has come.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """What a client sees."""

    TODO = "TODO"
    TRAINED = "TRAINED"
    VALIDATED = "VALIDATED"
    TESTED = "TESTED"
    ERROR = "ERROR"


class Phase(StrEnum):
    """What the scheduler goes by."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"


UNFINISHED = (State.TODO, State.TRAINED, State.VALIDATED)
FINISHED = (State.TESTED, State.ERROR)

# (phase, state) before -> every (phase, state) that may follow.
_WAITING = (Phase.WAITING, State.TODO)
_CLAIMED = (Phase.RUNNING, State.TODO)
_FITTED = (Phase.RUNNING, State.TRAINED)
_VALIDATED = (Phase.RUNNING, State.VALIDATED)
_TESTED = (Phase.DONE, State.TESTED)
_FAILED = (Phase.DONE, State.ERROR)

Step = tuple[Phase, State]

ALLOWED: dict[Step, frozenset[Step]] = {
    _WAITING: frozenset({_CLAIMED, _FAILED}),  # claimed; cancelled or its split failed
    _CLAIMED: frozenset({_FITTED, _FAILED, _WAITING}),  # back to waiting: restarted or released
    _FITTED: frozenset({_VALIDATED, _FAILED, _WAITING}),
    _VALIDATED: frozenset({_TESTED, _FAILED, _WAITING}),
    _TESTED: frozenset({_WAITING}),  # forced
    _FAILED: frozenset({_WAITING}),  # forced
}


def is_allowed(*, before: Step, after: Step) -> bool:
    """Tell whether a fold may go from one (phase, state) to another."""
    return after in ALLOWED.get(before, frozenset())


def list_sources(*, phase: Phase, state: State) -> list[Step]:
    """Return every (phase, state) from which the given one may be reached."""
    return [before for before, followers in ALLOWED.items() if (phase, state) in followers]
