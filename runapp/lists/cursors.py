"""Cursors: where a client has come to in a list, signed so that nobody makes up his own.

A cursor names the table, the account that was given it and the clock's epoch, and two places: what
had changed when the reading began (`seq`, `pk`), and the last row of a page (`after`), if it is one
of a page.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from django.core.signing import BadSignature, Signer

from runapp.common.exceptions import InvalidInput

# No module of today: clients hold cursors that were signed under this name.
_SIGNER = Signer(salt="runapp.cursors")
# More than any cursor has; what is longer need not be looked at.
_MOST_CHARACTERS = 400


@dataclass(frozen=True)
class Cursor:
    """A place in a list.

    Parameters
    ----------
    topic : str
        What is listed, and to whom.
    epoch : str
        The clock's.
    seq : int
        The change up to which the client knows all.
    pk : int or None
        Of the changes numbered `seq`, the row up to which it does; None is all of them.
    after : int or None
        The last row of the page that it has, in a list by age.
    """

    topic: str
    epoch: str
    seq: int
    pk: int | None = None
    after: int | None = None

    def encode(self) -> str:
        """Return the text that a client is given."""
        return _SIGNER.sign_object(list(asdict(self).values()))


def decode_cursor(text: str, *, topic: str, field: str) -> Cursor:
    """Read a cursor that was given to the same account for the same list.

    Raises
    ------
    InvalidInput
        When it was not.
    """
    try:
        if len(text) > _MOST_CHARACTERS:
            raise BadSignature
        values: list[Any] = _SIGNER.unsign_object(text)
    except (BadSignature, ValueError) as error:
        raise _refuse(field) from error
    cursor = Cursor(*values)
    if cursor.topic != topic:
        raise _refuse(field)
    return cursor


def _refuse(field: str) -> InvalidInput:
    return InvalidInput("This is not a cursor of this list.", field=field, code="bad_cursor")
