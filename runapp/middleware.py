"""What every request passes through."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from runapp.services import audit

Serve = Callable[[HttpRequest], HttpResponseBase]


def tell_audit(get_response: Serve) -> Serve:
    """Let the audit know whose deeds are done, and from where, while a request is served."""

    def serve(request: HttpRequest) -> HttpResponseBase:
        with audit.serving(request):
            return get_response(request)

    return serve
