"""What all views share: who asks, for whose rows, and validated input."""

from __future__ import annotations

from functools import cached_property
from typing import Any, cast

from django.contrib.auth.models import User
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView

from runapp.access import Scope, read_scope
from runapp.authentication import renew_account
from runapp.exceptions import LengthRequired
from runapp.models import AccessToken
from runapp.outages import is_locked
from runapp.selectors import find_owner


class DatarunView(APIView):
    """A view of the API."""

    is_retried = False

    def handle_exception(self, exc: Exception) -> Response:
        """Answer an error; a write that SQLite was too busy for is tried once more before."""
        handler = getattr(self, (self.request.method or "").lower(), None)
        if self.is_retried or handler is None or not is_locked(exc):
            return super().handle_exception(exc)
        self.is_retried = True
        try:
            # It may not have come so far as to know who asks.
            self.initial(self.request, *self.args, **self.kwargs)
            again: Response = handler(self.request, *self.args, **self.kwargs)
            return again
        except Exception as error:
            return self.handle_exception(error)

    def get_account(self) -> User:
        return cast(User, self.request.user)

    @cached_property
    def scope(self) -> Scope:
        """Whose rows the caller sees."""
        return read_scope(self.get_account())

    def look_again(self) -> None:
        """Read anew who asks and what he sees, either of which may have changed since.

        Raises
        ------
        AuthenticationFailed
            When he would not be let in any more.
        """
        token = cast(AccessToken | None, self.request.auth)
        self.request.user = renew_account(self.get_account(), token)
        self.__dict__.pop("scope", None)

    def get_owner(self) -> User | None:
        """Return the account of `?owner=`, if one is named."""
        return find_owner(scope=self.scope, name=self.request.query_params.get("owner"))


def read_body(request: Request) -> Any:
    """Return the request's body, decoded.

    Raises
    ------
    LengthRequired
        When its length is not told: Django reads nothing of such a body.
    """
    if "HTTP_TRANSFER_ENCODING" in request.META and not request.META.get("CONTENT_LENGTH"):
        raise LengthRequired("The body was sent in chunks; send a Content-Length instead.")
    return request.data


def read_input(serializer: type[BaseSerializer[Any]], request: Request) -> dict[str, Any]:
    """Return the request's validated body; raises DRF's ValidationError."""
    checked = serializer(data=read_body(request))
    checked.is_valid(raise_exception=True)
    return cast(dict[str, Any], checked.validated_data)
