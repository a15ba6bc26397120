"""Makes drf-spectacular write an operation from its description."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema

from runapp.schema.operations import (
    JSON,
    Operation,
    find_operation,
    read_examples,
    with_example,
)
from runapp.schema.types import Schema

# The source documentation's other spelling of two paths.
_ALIAS = "/runapp/raw_data/"


class BasicScheme(OpenApiAuthenticationExtension):
    target_class = "runapp.authentication.RememberedBasicAuthentication"
    name = "basic"

    def get_security_definition(self, auto_schema: AutoSchema) -> Schema:
        return {"type": "http", "scheme": "basic"}


class SessionScheme(OpenApiAuthenticationExtension):
    target_class = "rest_framework.authentication.SessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: AutoSchema) -> Schema:
        description = "A browser session; writes also need its CSRF token in `X-CSRFToken`."
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": settings.SESSION_COOKIE_NAME,
            "description": description,
        }


class TokenScheme(OpenApiAuthenticationExtension):
    target_class = "runapp.authentication.PlainTokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: AutoSchema) -> Schema:
        description = "`Token <key>`, with the key of one of the account's tokens."
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": description,
        }


class DescribedOperation(AutoSchema):
    """An operation as `operations.py` describes it."""

    @property
    def described(self) -> Operation:
        return find_operation(self.view, self.method)

    def get_operation_id(self) -> str:
        return self.described.id + ("Alias" if self.is_deprecated() else "")

    def get_summary(self) -> str:
        return self.described.summary

    def get_description(self) -> str:  # type: ignore[override]  # as drf-spectacular has it
        return self.described.description

    def get_tags(self) -> list[str]:
        return [self.described.tag]

    def is_deprecated(self) -> bool:
        return self.path.startswith(_ALIAS)

    def get_request_serializer(self) -> Any:
        """Return the body by media type: whole, as PATCH here does not make fields optional."""
        body = self.described.body
        if body is None or isinstance(body, dict):
            return body and {JSON: body}
        reference = self.resolve_serializer(body, "request").ref
        return {JSON: {**reference, **self.described.rules}}

    def get_response_serializers(self) -> Any:
        return {}

    def get_operation(self, *args: Any, **options: Any) -> Schema | None:
        operation: Schema | None = super().get_operation(*args, **options)
        if operation is None:
            return None
        if self.described.parameters:
            operation.setdefault("parameters", []).extend(self.described.parameters)
        if "requestBody" in operation:
            self._complete_body(operation["requestBody"])
        operation["responses"] = self.described.write_responses()
        return operation

    def _complete_body(self, body: Schema) -> None:
        example = read_examples().get(self.described.id, {}).get("body")
        if self.described.is_body_required:
            body["required"] = True
        body["content"][JSON] = with_example(body["content"][JSON], example)
