"""The table of state changes."""

from __future__ import annotations

from itertools import pairwise, product

import pytest

from runapp.common.transitions import (
    ALLOWED,
    FINISHED,
    UNFINISHED,
    Phase,
    State,
    Step,
    is_allowed,
    list_sources,
)

WAITING = (Phase.WAITING, State.TODO)
CLAIMED = (Phase.RUNNING, State.TODO)
FITTED = (Phase.RUNNING, State.TRAINED)
VALIDATED = (Phase.RUNNING, State.VALIDATED)
TESTED = (Phase.DONE, State.TESTED)
FAILED = (Phase.DONE, State.ERROR)
STEPS = [WAITING, CLAIMED, FITTED, VALIDATED, TESTED, FAILED]


def test_fold_goes_through_its_states_in_order() -> None:
    path = [WAITING, CLAIMED, FITTED, VALIDATED, TESTED]

    assert all(is_allowed(before=a, after=b) for a, b in pairwise(path))


@pytest.mark.parametrize("step", STEPS)
def test_unfinished_fold_may_fail(step: Step) -> None:
    assert is_allowed(before=step, after=FAILED) == (step[1] in UNFINISHED)


@pytest.mark.parametrize("step", STEPS)
def test_every_fold_but_a_waiting_one_may_go_back_to_waiting(step: Step) -> None:
    assert is_allowed(before=step, after=WAITING) == (step != WAITING)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (WAITING, FITTED),  # nothing runs that was not claimed
        (WAITING, TESTED),
        (CLAIMED, CLAIMED),  # a claim is one worker's
        (CLAIMED, TESTED),
        (FITTED, CLAIMED),
        (VALIDATED, FITTED),
        (TESTED, FAILED),  # a result is not taken back
        (FAILED, TESTED),
        (TESTED, CLAIMED),
    ],
)
def test_shortcuts_are_not_allowed(before: Step, after: Step) -> None:
    assert not is_allowed(before=before, after=after)


def test_what_the_table_does_not_name_leads_nowhere() -> None:
    unnamed = [step for step in product(Phase, State) if step not in ALLOWED]

    assert len(unnamed) == len(Phase) * len(State) - len(STEPS)
    assert not any(is_allowed(before=step, after=after) for step in unnamed for after in STEPS)


@pytest.mark.parametrize("after", STEPS)
def test_sources_are_the_table_read_backwards(after: Step) -> None:
    sources = list_sources(phase=after[0], state=after[1])

    assert sources == [step for step in ALLOWED if is_allowed(before=step, after=after)]


def test_every_step_can_be_reached_and_left() -> None:
    assert set(ALLOWED) == set(STEPS)
    assert all(ALLOWED.values())
    assert all(list_sources(phase=phase, state=state) for phase, state in STEPS)


def test_states_are_finished_or_not() -> None:
    assert set(FINISHED) | set(UNFINISHED) == set(State)
    assert not set(FINISHED) & set(UNFINISHED)
    assert {state for phase, state in ALLOWED if phase is Phase.DONE} == set(FINISHED)
