"""What every request passes through."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from http import HTTPMethod, HTTPStatus
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import resolve
from django_prometheus.middleware import PrometheusAfterMiddleware

from runapp.audit import record as audit
from runapp.common.log_context import HEADER, accept_request_id, following

logger = logging.getLogger(__name__)

Answer = Callable[[HttpRequest], HttpResponseBase]

# Asked by machines of machines: by address and not by name, without TLS, often, and without an
# account of ours. No answer repeats what the request said of its host.
PROBES = frozenset({"/health/live", "/health/ready", "/metrics"})
_MOST_LETTERS = 200


# Pollers ask every second; what they read, and that it has not changed, tells nothing.
_READING = frozenset({HTTPMethod.GET, HTTPMethod.HEAD, HTTPMethod.OPTIONS})


def trace_request(get_response: Answer) -> Answer:
    """Give each request an id, in every line logged for it and in its answer; log what it did."""

    def answer(request: HttpRequest) -> HttpResponseBase:
        request_id = accept_request_id(request.headers.get(HEADER))
        began_at = time.monotonic()
        with following(request=request_id):
            response = get_response(request)
            if request.method not in _READING or response.status_code >= HTTPStatus.BAD_REQUEST:
                _tell(request, response, seconds=time.monotonic() - began_at)
        response[HEADER] = request_id
        return response

    return answer


def _tell(request: HttpRequest, response: HttpResponseBase, *, seconds: float) -> None:
    if request.path_info in PROBES:
        return  # views/health.py tells what has changed
    # As it came but for what would begin another line; without the query, which may hold names.
    path = request.path_info.encode("unicode_escape").decode()[:_MOST_LETTERS]
    method = (request.method or "")[:_MOST_LETTERS]
    logger.info(
        *("%s %s: %s in %.3f s", method, path, response.status_code, seconds),
        extra={
            "action": "request",
            "method": method,
            "path": path,
            "status": response.status_code,
            "seconds": round(seconds, 3),
        },
    )


def answer_probes(get_response: Answer) -> Answer:
    """Answer probes whatever host they name, before redirects, throttles and sessions."""

    def answer(request: HttpRequest) -> HttpResponseBase:
        if request.path_info in PROBES:
            response: HttpResponseBase = resolve(request.path_info).func(request)
            return response
        return get_response(request)

    return answer


class MeasureRequests(PrometheusAfterMiddleware):  # type: ignore[misc]
    """Measures requests by view, and by the methods that there are."""

    def label_metric(
        self,
        metric: Any,
        request: HttpRequest,
        response: HttpResponseBase | None = None,
        **labels: str,
    ) -> Any:
        # Under whatever word a client sends a series would be kept for ever.
        if "method" in labels:
            labels["method"] = self._method(request)
        return super().label_metric(metric, request, response, **labels)


def tell_audit(get_response: Answer) -> Answer:
    """Let the audit know whose deeds are done, and from where, while a request is served."""

    def serve(request: HttpRequest) -> HttpResponseBase:
        with audit.serving(request):
            return get_response(request)

    return serve
