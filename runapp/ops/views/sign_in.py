"""Signs operators in and out."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from runapp.ops.views.base import protect


class SignIn(LoginView):
    """Asks for name and password; wrong ones are counted as everywhere."""

    template_name = "ops/sign_in.html"
    next_page = "ops:overview"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response: Any = super().dispatch(request, *args, **kwargs)
        return protect(response)


class SignOut(LogoutView):
    """Ends the session."""

    next_page = "ops:sign-in"
