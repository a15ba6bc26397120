"""What an error of the system says: that a blob is gone or bad, or that the storage is away."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runapp.common.exceptions import StorageAway, StorageError

# These may be the fault of one file. All others (full, read-only, refused, stale, no descriptor
# left) are of the storage or the machine, whatever blob was asked for.
_MAY_BE_THE_BLOB = (errno.ENOENT, errno.EIO, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)


@contextmanager
def reading(*, digest: str, folder: Path) -> Iterator[None]:
    """Tell errors of reading a blob.

    Parameters
    ----------
    digest : str
        The blob's name.
    folder : Path
        A folder that is there whenever the storage is: a share that was not mounted lacks it, and
        one that is gone cannot list it.

    Raises
    ------
    StorageAway
        When the storage as a whole does not answer.
    StorageError
        When only this blob cannot be read.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _MAY_BE_THE_BLOB and _can_list(folder):
            raise StorageError(f"The blob {digest[:12]} of a dataset cannot be read.") from error
        raise StorageAway() from error


@contextmanager
def writing() -> Iterator[None]:
    """Tell errors of writing; a folder that is gone stays a FileNotFoundError.

    That one says that the dataset was deleted meanwhile, which the caller looks up.

    Raises
    ------
    StorageAway
        When the storage refuses.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageAway() from error


@contextmanager
def caching() -> Iterator[None]:
    """Tell errors of this machine's own disk, which say nothing of any blob.

    Raises
    ------
    StorageAway
        Whatever it was.
    """
    try:
        yield
    except OSError as error:
        raise StorageAway() from error


def make_damaged(digest: str) -> StorageError:
    """Return the error that a blob is not what its name says."""
    return StorageError(f"The blob {digest[:12]} of a dataset is damaged.")


def _can_list(folder: Path) -> bool:
    try:
        next(folder.iterdir(), None)
    except OSError:
        return False
    return True
