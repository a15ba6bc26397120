"""Where a request comes from."""

from __future__ import annotations

from ipaddress import ip_address

from django.conf import settings
from django.http import HttpRequest


def read_address(request: HttpRequest) -> str:
    """Return the address of a request's client, "" where it is not known.

    What `X-Forwarded-For` says counts as far as it was written by proxies of our own
    (`DATARUN_PROXIES`): each of them adds the address that it was asked from at the end, and what
    stands before that is the client's own word.
    """
    addresses = [request.META.get("REMOTE_ADDR", "")]
    if settings.PROXIES:
        forwarded = request.headers.get("X-Forwarded-For", "")
        addresses = [part.strip() for part in forwarded.split(",") if part.strip()] or addresses
    address = addresses[-min(max(settings.PROXIES, 1), len(addresses))]
    try:
        known = ip_address(address)
    except ValueError:
        return ""
    # A server that listens on [::] is told so of clients of IPv4.
    return str(getattr(known, "ipv4_mapped", None) or known)
