"""Where the blobs are: what a storage URL says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

_FOLDER_FORM = "file:///srv/datarun"
_S3_FORM = "s3://bucket/prefix"
_OPTIONS = ("endpoint_url", "region_name", "addressing_style")
_ADDRESSING_STYLES = ("auto", "path", "virtual")


class BadLocation(ValueError):
    """A storage URL that cannot be understood."""


@dataclass(frozen=True)
class S3Location:
    """A place in an S3-compatible store.

    Parameters
    ----------
    bucket : str
        The bucket's name.
    prefix : str
        What all names begin with, without slashes around; may be empty.
    endpoint_url, region_name, addressing_style : str or None
        As boto3 has them; None leaves them to it, that is to the AWS_* variables.
    """

    bucket: str
    prefix: str = ""
    endpoint_url: str | None = None
    region_name: str | None = None
    addressing_style: str | None = None


def parse_location(url: str) -> Path | S3Location:
    """Return the folder or the place in an object store that a URL names.

    Raises
    ------
    BadLocation
        When it names neither; the text says what is wrong and shows no credential.
    """
    try:
        parts = urlsplit(url)
        is_bare = not (parts.username or parts.password or parts.port)
    except ValueError as error:
        raise BadLocation(f"must look like {_FOLDER_FORM} or {_S3_FORM}.") from error
    if parts.scheme == "file":
        if parts.netloc or parts.query or parts.fragment or not parts.path.startswith("/"):
            raise BadLocation(f"must name a folder by its absolute path, such as {_FOLDER_FORM}.")
        return Path(unquote(parts.path))
    if parts.scheme != "s3":
        raise BadLocation(f"must look like {_FOLDER_FORM} or {_S3_FORM}.")
    if not is_bare:
        raise BadLocation("must not hold credentials or a port: use the AWS_* variables.")
    if not parts.netloc or parts.fragment:
        raise BadLocation(f"must name a bucket, such as {_S3_FORM}.")
    prefix = unquote(parts.path).strip("/")
    return S3Location(bucket=parts.netloc, prefix=prefix, **_parse_options(parts.query))


def _parse_options(query: str) -> dict[str, str]:
    pairs = parse_qsl(query, keep_blank_values=True)
    options = dict(pairs)
    if len(options) != len(pairs) or not all(options.values()):
        raise BadLocation("must give each option once, with a value.")
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise BadLocation(f"has unknown options; the known ones are: {', '.join(_OPTIONS)}.")
    if not _is_endpoint(options.get("endpoint_url", "https://host")):
        raise BadLocation("must give endpoint_url as http://host:port or https://host:port.")
    if options.get("addressing_style", "auto") not in _ADDRESSING_STYLES:
        raise BadLocation(f"must give addressing_style as one of: {', '.join(_ADDRESSING_STYLES)}.")
    return options


def _is_endpoint(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # is a number, or raises
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)
