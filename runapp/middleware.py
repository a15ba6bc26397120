"""What comes before all else that a request meets."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import resolve

Answer = Callable[[HttpRequest], HttpResponseBase]

# Asked by machines of machines: by address and not by name, without TLS, often, and without an
# account. No answer repeats what the request said of its host.
PROBES = frozenset({"/health/live", "/health/ready"})


def answer_probes(get_response: Answer) -> Answer:
    """Answer probes whatever host they name, before redirects, throttles and sessions."""

    def answer(request: HttpRequest) -> HttpResponseBase:
        if request.path_info in PROBES:
            response: HttpResponseBase = resolve(request.path_info).func(request)
            return response
        return get_response(request)

    return answer
