"""Serves the document and its pages, to everybody."""

from __future__ import annotations

import threading
from typing import Any

from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.views import (
    SpectacularAPIView,
    SpectacularRedocView,
    SpectacularSwaggerSplitView,
)
from rest_framework.response import Response

# Importing them registers what they describe.
from runapp.schema import access, bodies, datasets, folds, predictions  # noqa: F401

# What the pages need and nothing from elsewhere; their scripts make styles and images of their own.
_POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; worker-src 'self' blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


_GENERATING = threading.Lock()


class OneAtATime(SchemaGenerator):
    """drf-spectacular's, whose first documents fail when several threads make one."""

    def get_schema(self, *args: Any, **options: Any) -> Any:
        with _GENERATING:
            return super().get_schema(*args, **options)  # type: ignore[no-untyped-call]  # it has no types


class Document(SpectacularAPIView):
    """The OpenAPI document, as YAML or as JSON."""

    generator_class = OneAtATime


class _Page:
    """A page that loads nothing from elsewhere."""

    def finalize_response(self, *args: Any, **options: Any) -> Response:
        response: Response = super().finalize_response(*args, **options)  # type: ignore[misc]
        response.headers["Content-Security-Policy"] = _POLICY
        return response


class SwaggerPage(_Page, SpectacularSwaggerSplitView):
    """Swagger UI: read the document and try it."""


class RedocPage(_Page, SpectacularRedocView):
    """Redoc: read the document."""

    template_name = "runapp/redoc.html"
