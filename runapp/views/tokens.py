"""Tokens of an account: list, make, revoke."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from rest_framework.request import Request
from rest_framework.response import Response

from runapp.exceptions import Forbidden
from runapp.models import AccessToken
from runapp.serializers import TokenInput
from runapp.services import tokens as services
from runapp.views.base import DatarunView, read_input


def show(token: AccessToken) -> dict[str, Any]:
    return {
        "id": token.public_id,
        "name": token.name,
        "created_at": token.created,
        "expires_at": token.expiry,
        "last_used_at": token.last_used_at,
    }


class TokenView(DatarunView):
    """Shows tokens: one's own, or those of an account that a superuser names."""

    def get_holder(self) -> User:
        account, owner = self.get_account(), self.get_owner() or self.get_account()
        # Others may know of an account without having a word on what it signs in by.
        if owner != account and not account.is_superuser:
            raise Forbidden("These tokens belong to another account.")
        return owner


class TokenList(TokenView):
    """List the tokens or make one."""

    def get(self, request: Request) -> Response:
        return Response([show(token) for token in services.list_live(account=self.get_holder())])

    def post(self, request: Request) -> Response:
        if request.auth is not None:
            # Who has found one must not be able to make others that outlive it.
            raise Forbidden("A token cannot make tokens; sign in by name and password.")
        if self.get_holder() != self.get_account():
            # Its key would be handed to whoever asked.
            raise Forbidden("A token is made by its own account, or by manage.py createtoken.")
        posted = read_input(TokenInput, request)
        token, key = services.create_token(account=self.get_account(), **posted)
        # Shown once, and kept nowhere on its way.
        return Response(
            {**show(token), "key": key}, status=201, headers={"Cache-Control": "no-store"}
        )


class TokenDetail(TokenView):
    """One token."""

    def delete(self, request: Request, public_id: str) -> Response:
        services.revoke_token(account=self.get_holder(), public_id=public_id)
        return Response(status=204)
