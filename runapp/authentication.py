"""HTTP Basic that remembers a verified credential for a minute, and tokens."""

from __future__ import annotations

import hashlib
import hmac
import threading
from typing import Any

from cachetools import TTLCache
from django.conf import settings
from django.contrib.auth.models import User
from django.db import DatabaseError
from django.utils import timezone
from knox.auth import TokenAuthentication
from knox.models import AuthToken
from rest_framework.authentication import BasicAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from runapp.outages import is_read_only
from runapp.services.sign_ins import note_sign_in

_MAX_REMEMBERED = 10_000
# More at once than a machine has processors is of no use.
_MAX_HASHING = 64


class RememberedBasicAuthentication(BasicAuthentication):
    """Basic authentication that need not pay the password hash at every request.

    The strong hash costs 0.3 to 0.6 s of CPU by design. A credential that it has confirmed is
    remembered, as an HMAC over name, password and the stored hash: a changed password changes
    the stored hash and so misses, and whether the account is enabled is read at each request.
    """

    _verified: TTLCache[str, bool] = TTLCache(_MAX_REMEMBERED, settings.BASIC_CREDENTIAL_SECONDS)
    _lock = threading.Lock()
    _hashing = tuple(threading.Lock() for _ in range(_MAX_HASHING))

    def authenticate_credentials(
        self, userid: str, password: str, request: Request | None = None
    ) -> tuple[Any, None]:
        if "\0" in userid:  # PostgreSQL refuses to look for it
            raise AuthenticationFailed("Invalid username/password.")
        user = User.objects.filter(username=userid).first()
        if user is None or not user.is_active:
            return super().authenticate_credentials(userid, password, request)
        key = _digest_credential(userid, password, user.password)
        if self._is_verified(key):
            return user, None
        # Of fifty requests at once with one credential, one pays for the hash.
        with self._hashing[int(key, 16) % len(self._hashing)]:
            if not self._is_verified(key):
                self._verify(userid, password, request)
                # Signing in may have replaced an old hash by a stronger one; the next one pays.
                with self._lock:
                    self._verified[key] = True
                note_sign_in(account=user)
        return user, None

    def _is_verified(self, key: str) -> bool:
        with self._lock:
            return key in self._verified

    def _verify(self, userid: str, password: str, request: Request | None) -> None:
        try:
            super().authenticate_credentials(userid, password, request)
        except DatabaseError as error:
            # Only a password that is right is hashed anew, when the hash has become a weak one; a
            # database that can only be read keeps nobody out for that.
            if not is_read_only(error):
                raise


class PlainTokenAuthentication(TokenAuthentication):  # type: ignore[misc]  # knox has no types
    """knox's tokens; bytes that no key is made of are a wrong token, not a failure of ours."""

    def authenticate_credentials(self, token: bytes) -> tuple[Any, Any]:
        if not token.isalnum():
            raise AuthenticationFailed("Invalid token.")
        user, auth_token = super().authenticate_credentials(token)
        return user, auth_token

    def _cleanup_token(self, auth_token: AuthToken) -> bool:
        # knox looks through all tokens of the account here and deletes the expired ones: a query
        # more at every request, and a write on a GET. An expired token is refused all the same.
        return auth_token.expiry is not None and auth_token.expiry < timezone.now()


def _digest_credential(name: str, password: str, stored_hash: str) -> str:
    fields = b"\0".join(
        text.encode("utf-8", "surrogatepass") for text in (name, stored_hash, password)
    )
    return hmac.new(settings.SECRET_KEY.encode(), fields, hashlib.sha256).hexdigest()
