"""Errors of our own, each with a stable code; the exception handler makes them HTTP answers."""

from __future__ import annotations

from collections.abc import Mapping


class DatarunError(Exception):
    """The parent of all errors that a client is told of.

    Parameters
    ----------
    message : str
        What happened and what to do next, without a path of the server.
    field : str, optional
        The field of the request that is at fault.
    """

    code = "error"

    def __init__(self, message: str, *, field: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        if code is not None:
            self.code = code


class InvalidInput(DatarunError):
    """A value that cannot be accepted (400)."""

    code = "invalid"


class NotFound(DatarunError):
    """Nothing of that id that the caller may know of (404)."""

    code = "not_found"


class Forbidden(DatarunError):
    """Something that the caller may know of but not do (403)."""

    code = "permission_denied"


class Conflict(DatarunError):
    """The request does not fit what is there (409)."""

    code = "conflict"


class Gone(DatarunError):
    """A cursor that leads nowhere any more: what it stood for has to be read anew (410)."""

    code = "gone"


class TooSlow(DatarunError):
    """A body that took longer than the server waits for one (408)."""

    code = "timeout"


class LengthRequired(DatarunError):
    """A body whose length is not told (411)."""

    code = "length_required"


class TooLarge(DatarunError):
    """More bytes than the server takes (413)."""

    code = "too_large"


class TooMany(DatarunError):
    """More than the caller may do for now (429).

    Parameters
    ----------
    retry_after_seconds : int
        When it is worth trying again.
    headers : mapping of str to str, optional
        What the answer tells of it besides.
    """

    code = "throttled"

    def __init__(
        self,
        message: str,
        *,
        retry_after_seconds: int,
        headers: Mapping[str, str] | None = None,
        field: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message, field=field, code=code)
        self.retry_after_seconds = retry_after_seconds
        self.headers = dict(headers or {})


class QuotaExceeded(TooMany):
    """More than the account's quotas leave it (429)."""

    code = "quota_exceeded"


class SpecificModuleMissing(DatarunError):
    """Several files and no Python module that says how to read them (406)."""

    code = "specific_missing"


class StorageError(DatarunError):
    """A blob is missing or damaged: an operator's matter (500 when a client meets it).

    When its dataset was deleted a moment ago, nothing is wrong, and asking again answers 404.
    """

    code = "storage"


class StorageAway(StorageError):
    """The storage does not answer, or refuses: it is full, read-only or denied (503).

    Nothing is known of the blob that was asked for; trying again later may do.
    """

    code = "unavailable"

    def __init__(self) -> None:
        super().__init__("The storage is busy, full or unavailable; try again later.")
