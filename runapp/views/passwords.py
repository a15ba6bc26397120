"""The password of an account."""

from __future__ import annotations

from django.contrib.auth import update_session_auth_hash
from rest_framework.authentication import SessionAuthentication
from rest_framework.request import Request
from rest_framework.response import Response

from runapp.accounts.passwords import change_password
from runapp.common.exceptions import Forbidden
from runapp.http.view import DatarunView, read_input
from runapp.serializers import PasswordInput


class Password(DatarunView):
    """Change it."""

    def post(self, request: Request) -> Response:
        if request.auth is not None:
            raise Forbidden("A token cannot change the password; sign in by name and password.")
        account = self.get_account()
        change_password(account=account, request=request, **read_input(PasswordInput, request))
        if isinstance(request.successful_authenticator, SessionAuthentication):
            # The session that asked goes on, all others end.
            update_session_auth_hash(request._request, account)
        return Response(status=204)
