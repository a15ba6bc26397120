"""What all pages share: who may look, what a browser may load, and parts that are read again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import add_never_cache_headers
from django.utils.http import url_has_allowed_host_and_scheme
from django_htmx.http import HttpResponseClientRedirect
from django_htmx.middleware import HtmxDetails

from runapp.accounts.access import Scope, read_scope
from runapp.common.exceptions import NotFound
from runapp.ops.actions import FOLD_ACTIONS, FoldAction
from runapp.ops.overview import read_pulse

Rest = ParamSpec("Rest")
OperatorView = Callable[Concatenate[HttpRequest, Scope, Rest], HttpResponse]

# Nothing from elsewhere, no script and no style within a page: what participants have named or
# printed could not run, even if it were not escaped.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def for_operators(
    view: OperatorView[Rest],
) -> Callable[Concatenate[HttpRequest, Rest], HttpResponse]:
    """Show a page to operators and superusers only."""

    @wraps(view)
    def serve(request: HttpRequest, /, *args: Rest.args, **kwargs: Rest.kwargs) -> HttpResponse:
        if not request.user.is_authenticated:
            return protect(_send_to_sign_in(request))
        scope = read_scope(request.user)
        if not scope.sees_all:
            return protect(show(request, "ops/forbidden.html", status=403))
        try:
            return protect(view(request, scope, *args, **kwargs))
        except (NotFound, Http404):
            return protect(show(request, "ops/missing.html", status=404))

    return serve


def by_form(view: OperatorView[Rest]) -> OperatorView[Rest]:
    """Do what a form asks for; tell who has come by the address alone that it does nothing."""

    @wraps(view)
    def serve(
        request: HttpRequest, scope: Scope, /, *args: Rest.args, **kwargs: Rest.kwargs
    ) -> HttpResponse:
        if request.method == "POST":
            return view(request, scope, *args, **kwargs)
        response = show(request, "ops/form_only.html", status=405)
        response.headers["Allow"] = "POST"
        return response

    return serve


def protect(response: HttpResponse) -> HttpResponse:
    """Say what a page may load, and that nobody keeps it."""
    response.headers["Content-Security-Policy"] = _POLICY
    add_never_cache_headers(response)
    return response


def show(
    request: HttpRequest,
    template: str,
    context: Mapping[str, Any] | None = None,
    *,
    status: int = 200,
) -> HttpResponse:
    """Return a page."""
    return render(request, template, dict(context or {}), status=status)


def show_live(
    request: HttpRequest, name: str, read: Callable[[], Mapping[str, Any]]
) -> HttpResponse:
    """Return a page, or only its part that changes where the page itself asks for that.

    Parameters
    ----------
    name : str
        Of the templates: `ops/{name}.html` is the page, and `ops/parts/{name}.html` the part.
    read : callable
        Returns what they show; not called when nothing can have changed.
    """
    if not is_part(request):
        return show(request, f"ops/{name}.html", read())
    etag = _make_etag(request)
    if request.headers.get("If-None-Match") == etag:
        return HttpResponse(status=304, headers={"ETag": etag})
    response = show(request, f"ops/parts/{name}.html", {**read(), "is_part": True})
    response.headers["ETag"] = etag
    return response


def read_action(request: HttpRequest) -> FoldAction:
    """Return the action that a form names.

    Raises
    ------
    NotFound
        When there is no such action.
    """
    action = FOLD_ACTIONS.get(request.POST.get("deed", ""))
    if action is None:
        raise NotFound("There is no such deed.")
    return action


def find_way_back(request: HttpRequest) -> str:
    """Return the path of this host from which a form says that it came, or that of the folds."""
    back = request.POST.get("back", "")
    is_ours = back.startswith("/") and url_has_allowed_host_and_scheme(
        back, allowed_hosts=None, require_https=request.is_secure()
    )
    return back if is_ours else reverse("ops:folds")


def is_part(request: HttpRequest) -> bool:
    """Tell whether a page asks for its part that changes."""
    htmx: HtmxDetails = request.htmx  # type: ignore[attr-defined]
    return bool(htmx)


def _make_etag(request: HttpRequest) -> str:
    # The account and the page are the browser's to tell apart, but for who signs in anew.
    about = f"{request.user.pk} {request.get_full_path()} {read_pulse()}"
    return f'"{hashlib.sha256(about.encode()).hexdigest()[:32]}"'


def _send_to_sign_in(request: HttpRequest) -> HttpResponse:
    response = redirect_to_login(_find_page(request), reverse("ops:sign-in"))
    return HttpResponseClientRedirect(response.url) if is_part(request) else response


def _find_page(request: HttpRequest) -> str:
    """Return the path of the page that somebody sees who asks for this."""
    if request.method == "POST":
        # What a form asked for is not done by whoever signs in.
        return find_way_back(request)
    htmx: HtmxDetails = request.htmx  # type: ignore[attr-defined]
    return htmx.current_url_abs_path or request.get_full_path()
