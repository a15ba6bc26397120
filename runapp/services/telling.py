"""What is told of a run that did not end well: to its owner, and to the operator."""

from __future__ import annotations

from django.conf import settings

from runapp.runner.contract import Outcome, RunResult


def name_our_fault(outcome: Outcome) -> str:
    """Return the error code with which a fault of ours ends what was tried too often."""
    return "worker_lost" if outcome is Outcome.LOST else "internal_error"


def describe(result: RunResult) -> str:
    """Return what an operator's log tells of a fault of ours.

    What participant code has printed is not for logs: of a run that was lost in the middle nothing
    is told but how much it was. Before it begins, all output is of our own part of the child.
    """
    if result.outcome is Outcome.LOST:
        return f"{result.sentence} ({len(result.output)} characters of output)"
    return f"{result.sentence} {result.output}"


def write_log(result: RunResult) -> str:
    """Return what a client reads of a failed run: its output, then what happened."""
    sentence = result.sentence
    if "." not in sentence.partition(" ")[0]:  # a file's name stays as it is
        sentence = sentence[:1].upper() + sentence[1:]
    parts = [result.output.rstrip("\n"), sentence, result.traceback.rstrip("\n")]
    return hide_home("\n".join(part for part in parts if part))


def hide_home(text: str) -> str:
    """Return what a run has printed without the place of the home."""
    return text.replace(str(settings.DATARUN_HOME), "home")
