"""Answers outside the API's views, in its shape: unknown paths, refused requests, our faults."""

from __future__ import annotations

import sys
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.csrf import csrf_failure

from runapp.outages import RETRY_AFTER_SECONDS, describe_outage, is_outage
from runapp.services.sign_in import LOCKED, count_failures, find_wait, read_name
from runapp.views.ops.base import protect, show


def _answer(status: int, code: str, message: str) -> JsonResponse:
    errors = [{"field": None, "code": code, "message": message}]
    return JsonResponse({"detail": message, "errors": errors}, status=status)


def answer_bad_request(request: HttpRequest, exception: Exception) -> JsonResponse:
    return _answer(400, "bad_request", "The request is malformed.")


def answer_forbidden(request: HttpRequest, exception: Exception) -> JsonResponse:
    return _answer(403, "permission_denied", "This is not allowed.")


def answer_stale_form(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer a form without its token: with a page where it was one of the operators' pages."""
    if _is_of_operators(request):
        return protect(show(request, "ops/form_only.html", {"is_stale": True}, status=403))
    return csrf_failure(request, reason)


def answer_not_found(request: HttpRequest, exception: Exception) -> JsonResponse:
    return _answer(404, "not_found", "Not found.")


def answer_server_error(request: HttpRequest) -> JsonResponse:
    # Django calls this inside its except clause, for a middleware's errors as for a view's: it is
    # the one place that sees those of the sessions and of the admin site.
    error = sys.exception()
    if error is not None and is_outage(error):
        response = _answer(503, "unavailable", describe_outage(error))
        response["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return response
    return _answer(500, "error", "Something went wrong on the server; it has been logged.")


def answer_locked(
    request: HttpRequest, response: object, credentials: dict[str, Any] | None
) -> HttpResponse:
    """Answer who signs in by a form after too many wrong passwords: as the API does, or a page."""
    wait = find_wait(count_failures(request, name=read_name(request, credentials)))
    answer: HttpResponse
    if _is_of_operators(request):
        answer = protect(show(request, "ops/sign_in.html", {"locked": LOCKED}, status=429))
    else:
        answer = _answer(429, "locked", LOCKED)
    answer["Retry-After"] = str(wait or 1)
    return answer


def _is_of_operators(request: HttpRequest) -> bool:
    match = request.resolver_match
    return match is not None and match.app_name == "ops"
