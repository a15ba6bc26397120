"""What a command does to all folds that fit a search: told, asked, then done by rounds."""

from __future__ import annotations

import sys
from collections import Counter

from django.core.management.base import CommandError, OutputWrapper

from runapp.ops.actions import FoldAction
from runapp.ops.bulk_actions import (
    BulkAction,
    Prospect,
    describe_search,
    do_round,
    foresee,
    group_refusals,
)
from runapp.ops.search import Search


def run_bulk_action(
    *, action: FoldAction, search: Search, is_sure: bool, out: OutputWrapper, errors: OutputWrapper
) -> None:
    """Do it to all folds that fit, once whoever sits there has agreed.

    Parameters
    ----------
    action, search : FoldAction, Search
        What is done, and to which folds.
    is_sure : bool
        Whether nobody is to be asked.
    out, errors : OutputWrapper
        Get what is told, and what was refused.

    Raises
    ------
    CommandError
        When the search cannot be meant, nobody has agreed, or a fold was refused.
    """
    prospect = foresee(action=action, search=search)
    if not prospect.fitting.number and (hints := search.explain()):
        raise CommandError(" ".join(hints))
    out.write(_tell(prospect))
    if not prospect.able.number:
        return
    if not is_sure:
        _ask(action)
    refused = _do_rounds(prospect.sweep, out)
    for sentence, number in refused.most_common():
        errors.write(f"{number} not done: {sentence}")
    if refused:
        raise CommandError(f"{refused.total()} folds were refused.")


def _tell(prospect: Prospect) -> str:
    action, words = prospect.sweep.action, describe_search(prospect.sweep.search)
    return "\n".join(
        (
            f"{action.title}: {action.takes} {action.sentence}",
            f"Searched for: {words or 'nothing, so these are all folds of all accounts'}.",
            f"Matching folds: {prospect.fitting}. The action applies to {prospect.able} of them.",
        )
    )


def _ask(action: FoldAction) -> None:
    if not sys.stdin.isatty():
        raise CommandError(
            "Nothing was done: there is no terminal to ask for confirmation. Use --yes to skip it."
        )
    try:
        answer = input(f"{action.title}? [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise CommandError("Nothing was done.")


def _do_rounds(sweep: BulkAction, out: OutputWrapper) -> Counter[str]:
    """Do it, and tell how far it has come; return how many were refused by each sentence."""
    n_done, refused = 0, Counter[str]()
    while not (done := do_round(sweep=sweep)).is_empty:
        n_done, sweep = n_done + done.n_done, done.rest
        refused.update(
            {sentence: len(keys) for sentence, keys in group_refusals(done.refusals).items()}
        )
        out.write(f"{n_done} done, {refused.total()} not done.")
    return refused
