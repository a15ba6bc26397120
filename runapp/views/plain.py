"""Answers outside the API's views, in its shape: unknown paths, refused requests, our faults."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse


def _answer(status: int, code: str, message: str) -> JsonResponse:
    errors = [{"field": None, "code": code, "message": message}]
    return JsonResponse({"detail": message, "errors": errors}, status=status)


def answer_bad_request(request: HttpRequest, exception: Exception) -> JsonResponse:
    return _answer(400, "bad_request", "The request cannot be understood.")


def answer_forbidden(request: HttpRequest, exception: Exception) -> JsonResponse:
    return _answer(403, "permission_denied", "This is not allowed.")


def answer_not_found(request: HttpRequest, exception: Exception) -> JsonResponse:
    return _answer(404, "not_found", "Not found.")


def answer_server_error(request: HttpRequest) -> JsonResponse:
    return _answer(500, "error", "Something went wrong here; it has been logged.")
