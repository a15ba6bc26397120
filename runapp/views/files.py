"""Posted files, written into a folder as the source document says."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

from runapp.common import wire
from runapp.common.exceptions import InvalidInput
from runapp.fields import FilesField
from runapp.runner.child import files as posted_files


def save_files(dir_data: str | PathLike[str], data: Mapping[str, Any]) -> None:
    """Save files from `data['files']` in the folder `dir_data`, which is made if it is missing.

    Parameters
    ----------
    dir_data : str or path
        The folder.
    data : mapping
        What was posted: its `files` are contents by name, each as text, base64 of zlib. The
        contents may be decoded already, to bytes.

    Raises
    ------
    ValidationError
        When a content is not encoded like that. Nothing is written then.
    InvalidInput
        When a name is none of a file below the folder. Nothing is written then.
    TooLarge
        When the contents inflate to more than a dataset may have.
    """
    files = data["files"]
    if not all(isinstance(content, bytes) for content in files.values()):
        files = FilesField(max_bytes="MAX_INFLATED_BYTES").run_validation(files)
    try:
        wire.check_file_names(files)
    except wire.WireError as error:
        raise InvalidInput(str(error), field="files") from error
    posted_files.save_files(dir_data, {"files": files})
