"""HTTP Basic that remembers a verified credential for a minute, and tokens."""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Iterator
from hmac import compare_digest
from typing import Any

from cachetools import TTLCache
from django.conf import settings
from django.contrib.auth.models import User
from django.utils import timezone
from knox.auth import TokenAuthentication
from knox.crypto import hash_token
from knox.settings import CONSTANTS
from rest_framework.authentication import BasicAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from runapp.access import with_scope
from runapp.models import AccessToken
from runapp.services.sign_in import sign_in
from runapp.services.sign_in_events import note_sign_in
from runapp.services.tokens import list_live, note_use

_WRONG = "Invalid username/password."
_ENDED = "The account, its password or its token is no longer valid."
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
            raise AuthenticationFailed(_WRONG)
        user = with_scope(User.objects.filter(username=userid)).first()
        is_enabled = user is not None and user.is_active
        key = _digest_credential(userid, password, "" if user is None else user.password)
        if is_enabled and self._is_verified(key):
            return user, None
        # Of fifty requests at once with one credential, one pays for the hash. Those of an account
        # that there is not wait like the others, so that no name can be told from its time.
        with self._hashing[int(key, 16) % len(self._hashing)]:
            if not (is_enabled and self._is_verified(key)):
                if not sign_in(account=user, name=userid, password=password, request=request):
                    raise AuthenticationFailed(_WRONG)
                assert user is not None  # whose password is right
                # Signing in may have replaced an old hash by a stronger one; the next one pays.
                with self._lock:
                    self._verified[key] = True
                note_sign_in(account=user)
        return user, None

    def _is_verified(self, key: str) -> bool:
        with self._lock:
            return key in self._verified


class PlainTokenAuthentication(TokenAuthentication):  # type: ignore[misc]  # knox has no types
    """knox's tokens; bytes that no key is made of are a wrong token, not a failure of ours."""

    def authenticate_credentials(self, token: bytes) -> tuple[Any, Any]:
        if not token.isalnum():
            raise AuthenticationFailed("Invalid token.")
        key = token.decode("ascii")
        found = next((row for row in _list_tokens(key) if is_key_of(key, row)), None)
        if found is None:
            raise AuthenticationFailed("Invalid token.")
        user, auth_token = self.validate_user(found)
        note_use(auth_token)
        return user, auth_token


def _list_tokens(key: str) -> Iterator[AccessToken]:
    """Yield the tokens that begin like a key and have not expired, with their accounts."""
    # In one query, unlike knox, which also deletes the expired ones on the way.
    rows = AccessToken.objects.filter(token_key=key[: CONSTANTS.TOKEN_KEY_LENGTH])
    for row in with_scope(rows.select_related("user"), account="user"):
        row.user.is_alone, row.user.clock = row.is_alone, row.clock
        if row.expiry is None or row.expiry > timezone.now():
            yield row


def renew_account(account: User, token: AccessToken | None) -> User:
    """Return an account that was let in a while ago as it is now.

    Parameters
    ----------
    account : User
        As it was let in.
    token : AccessToken or None
        By which, None for a password.

    Raises
    ------
    AuthenticationFailed
        When the account, the token or the password is good no more.
    """
    rows = User.objects.filter(pk=account.pk, is_active=True)
    if token is None:
        rows = rows.filter(password=account.password)
    else:
        rows = rows.filter(auth_token_set__in=list_live(account=account).filter(pk=token.pk))
    renewed = with_scope(rows).first()
    if renewed is None:
        raise AuthenticationFailed(_ENDED)
    return renewed


def is_key_of(key: str, token: AccessToken) -> bool:
    """Tell whether a key is that of a token, of which only the hash is kept."""
    return compare_digest(hash_token(key), token.digest)


def _digest_credential(name: str, password: str, stored_hash: str) -> str:
    fields = b"\0".join(
        text.encode("utf-8", "surrogatepass") for text in (name, stored_hash, password)
    )
    return hmac.new(settings.SECRET_KEY.encode(), fields, hashlib.sha256).hexdigest()
