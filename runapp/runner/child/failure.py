"""How a failure inside a child is told: a sentence and a traceback without server paths."""

from __future__ import annotations

import importlib
import json
import traceback
from collections.abc import Iterator
from pathlib import Path

from runapp.runner.child.splitting import SplitError
from runapp.runner.child.workflow import BadPredictions, MissingClass
from runapp.runner.contract import Outcome
from runapp.runner.data.array_file import ColumnsError
from runapp.runner.data.labels import LabelError
from runapp.runner.path_hiding import hide_paths

MAX_TEXT = 20_000
MAX_SENTENCE = 2_000

# Ours, with a message for the one whom it concerns; where in our code it was raised is not.
_PLAIN = (BadPredictions, MissingClass, SplitError, LabelError, ColumnsError)

_RUNNER = str(Path(__file__).parents[1])
_IMPORTLIB = str(Path(importlib.__file__).parent)


def pack_failure(error: BaseException, *, scratch: str, is_before_fit: bool = False) -> bytes:
    """Describe a failure as JSON: `outcome`, `sentence`, `traceback`, `is_before_fit`.

    Parameters
    ----------
    error : BaseException
        What the submission, or the organiser's module, raised.
    scratch : str
        The working directory of the run; paths below it are told relative to it.
    is_before_fit : bool, optional
        Whether the submission's `fit` had not been called yet.
    """
    try:
        sentence, text = _describe(error, scratch=scratch)
    except Exception:
        # An exception's own __str__ or __repr__ is participant code and may raise.
        sentence, text = f"{type(error).__name__} was raised", ""
    report = {
        "outcome": _name_outcome(error),
        "sentence": sentence,
        "traceback": text,
        "is_before_fit": is_before_fit,
    }
    return json.dumps(report, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _name_outcome(error: BaseException) -> Outcome:
    if isinstance(error, MemoryError):
        return Outcome.MEMORY_LIMIT
    if isinstance(error, BadPredictions):
        return Outcome.BAD_PREDICTIONS
    return Outcome.SUBMISSION_ERROR


def _describe(error: BaseException, *, scratch: str) -> tuple[str, str]:
    if isinstance(error, _PLAIN):
        return hide_paths(str(error), scratch=scratch)[:MAX_SENTENCE], ""
    told = traceback.TracebackException.from_exception(error)
    for part in _walk_chain(told):
        part.stack = traceback.StackSummary.from_list(
            [frame for frame in part.stack if not _is_ours(frame.filename)]
        )
    text = _shorten(hide_paths("".join(told.format()), scratch=scratch))
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    where = _locate(error, told, scratch=scratch)
    sentence = hide_paths(f"{where}: {what}" if where else what, scratch=scratch)
    return sentence[:MAX_SENTENCE], text


def _walk_chain(told: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    waiting = [told]
    while waiting:
        part = waiting.pop()
        yield part
        links = (part.__cause__, part.__context__, *(part.exceptions or ()))
        waiting += [link for link in links if link is not None]


def _is_ours(filename: str) -> bool:
    return filename.startswith((_RUNNER, _IMPORTLIB, "<frozen "))


def _locate(error: BaseException, told: traceback.TracebackException, *, scratch: str) -> str:
    """Name the deepest line that lies in the submission's or the organiser's own files."""
    if isinstance(error, SyntaxError) and (error.filename or "").startswith(scratch):
        return f"{Path(error.filename or '').name}, line {error.lineno}"
    own = [frame for frame in told.stack if frame.filename.startswith(scratch)]
    return f"{Path(own[-1].filename).name}, line {own[-1].lineno}" if own else ""


def _shorten(text: str) -> str:
    if len(text) <= MAX_TEXT:
        return text
    half = MAX_TEXT // 2
    return f"{text[:half]}\n... {len(text) - MAX_TEXT} characters left out ...\n{text[-half:]}"
