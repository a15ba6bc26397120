"""One submission with its files, and one account."""

from __future__ import annotations

import logging

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from runapp.accounts.access import Scope
from runapp.common.exceptions import Forbidden, StorageAway, StorageError
from runapp.ops.account_page import read_account_page, read_file, read_submission_page
from runapp.ops.views.base import for_operators, show, show_live

logger = logging.getLogger(__name__)


@require_safe
@for_operators
def show_submission(request: HttpRequest, scope: Scope, pk: int) -> HttpResponse:
    """Show a submission and its folds."""
    return show_live(
        request,
        "submission",
        lambda: {"here": "folds", "story": read_submission_page(pk=pk, scope=scope)},
    )


@require_safe
@for_operators
def show_file(request: HttpRequest, scope: Scope, pk: int, name: str) -> HttpResponse:
    """Show a file of a submission to those who may read it."""
    try:
        file = read_file(pk=pk, name=name, scope=scope)
    except Forbidden as error:
        return show(request, "ops/forbidden.html", {"why": error.message}, status=403)
    except StorageError as error:
        logger.error("a file of a submission: %s (%s)", error.message, error.__cause__)
        status = 503 if isinstance(error, StorageAway) else 500
        return show(request, "ops/unreadable.html", {"why": error.message}, status=status)
    return show(request, "ops/file.html", {"here": "folds", "file": file})


@require_safe
@for_operators
def show_account(request: HttpRequest, scope: Scope, name: str) -> HttpResponse:
    """Show what an account has used, may use, and has done."""
    return show_live(request, "account", lambda: {"story": read_account_page(name=name)})
