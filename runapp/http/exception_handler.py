"""Turns errors into HTTP answers: one shape, stable codes, no server paths."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework import exceptions as drf
from rest_framework.response import Response
from rest_framework.views import exception_handler

from runapp.common import exceptions as ours
from runapp.common.outages import RETRY_AFTER_SECONDS, describe_outage, is_outage

logger = logging.getLogger(__name__)

_STATUSES: dict[type[ours.DatarunError], int] = {
    ours.InvalidInput: 400,
    ours.Forbidden: 403,
    ours.NotFound: 404,
    ours.TooSlow: 408,
    ours.Conflict: 409,
    ours.Gone: 410,
    ours.LengthRequired: 411,
    ours.TooLarge: 413,
    ours.TooMany: 429,
    ours.QuotaExceeded: 429,
    ours.SpecificModuleMissing: 406,
}


def handle_exception(error: Exception, context: dict[str, Any]) -> Response | None:
    """Answer an error; None leaves it to Django's own 500."""
    if isinstance(error, ours.SpecificModuleMissing):
        return Response({"error": error.message}, status=406)
    if isinstance(error, ours.StorageAway):
        logger.error("the storage refused: %s", error.__cause__ or "it did not answer just before")
        return Response(
            _describe(None, error.code, error.message), status=503, headers={"Retry-After": "2"}
        )
    if isinstance(error, ours.DatarunError):
        return _answer_ours(error)
    if is_outage(error):
        return Response(
            _describe(None, "unavailable", describe_outage(error)),
            status=503,
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        )
    error = _translate(error)
    response = exception_handler(error, context)
    if response is not None and isinstance(error, drf.APIException):
        errors = list(_list_errors(error.get_full_details()))
        body = response.data if isinstance(response.data, dict) else {"detail": response.data}
        response.data = {**body, "errors": errors}
    return response


def _translate(error: Exception) -> Exception:
    # What Django raises has no details to list, what it stands for in DRF has.
    if isinstance(error, Http404):
        return drf.NotFound()
    if isinstance(error, PermissionDenied):
        return drf.PermissionDenied()
    return error


def _answer_ours(error: ours.DatarunError) -> Response:
    status = _STATUSES.get(type(error), 500)
    if status == 500:
        logger.error("%s", error.message)
    response = Response(_describe(error.field, error.code, error.message), status=status)
    if isinstance(error, ours.TooMany):
        response.headers["Retry-After"] = str(error.retry_after_seconds)
        for name, value in error.headers.items():
            response.headers[name] = value
    return response


def _describe(field: str | None, code: str, message: str) -> dict[str, Any]:
    plain = {"detail": message} if field is None else {field: [message]}
    return {**plain, "errors": [{"field": field, "code": code, "message": message}]}


def _list_errors(details: Any, field: str | None = None) -> Iterator[dict[str, Any]]:
    """Flatten DRF's nested details; a nested field is told by its dotted path."""
    if isinstance(details, list):
        for item in details:
            yield from _list_errors(item, field)
    elif set(details) == {"message", "code"} and not isinstance(details["message"], (dict, list)):
        yield {"field": field, "code": details["code"], "message": details["message"]}
    else:
        for name, item in details.items():
            path = name if field is None else f"{field}.{name}"
            yield from _list_errors(item, None if name == "non_field_errors" else path)
