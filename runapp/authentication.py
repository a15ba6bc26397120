"""HTTP Basic that remembers a verified credential for a minute."""

from __future__ import annotations

import hashlib
import hmac
import threading
from typing import Any

from cachetools import TTLCache
from django.conf import settings
from django.contrib.auth.models import User
from rest_framework.authentication import BasicAuthentication
from rest_framework.request import Request

_MAX_REMEMBERED = 10_000


class RememberedBasicAuthentication(BasicAuthentication):
    """Basic authentication that need not pay the password hash at every request.

    The strong hash costs 0.3 to 0.6 s of CPU by design. A credential that it has confirmed is
    remembered, as an HMAC over name, password and the stored hash: a changed password changes
    the stored hash and so misses, and whether the account is enabled is read at each request.
    """

    _verified: TTLCache[str, bool] = TTLCache(_MAX_REMEMBERED, settings.BASIC_CREDENTIAL_SECONDS)
    _lock = threading.Lock()

    def authenticate_credentials(
        self, userid: str, password: str, request: Request | None = None
    ) -> tuple[Any, None]:
        user = User.objects.filter(username=userid.replace("\0", "")).first()
        if user is None or not user.is_active:
            return super().authenticate_credentials(userid, password, request)
        key = _digest_credential(userid, password, user.password)
        with self._lock:
            if key in self._verified:
                return user, None
        super().authenticate_credentials(userid, password, request)
        # Signing in may have replaced an old hash by a stronger one; the next request pays again.
        with self._lock:
            self._verified[key] = True
        return user, None


def _digest_credential(name: str, password: str, stored_hash: str) -> str:
    fields = b"\0".join(
        text.encode("utf-8", "surrogatepass") for text in (name, stored_hash, password)
    )
    return hmac.new(settings.SECRET_KEY.encode(), fields, hashlib.sha256).hexdigest()
