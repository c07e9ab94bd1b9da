"""OpenAPI 3.1 from the code: what drf-spectacular cannot see by itself, and the document at /api/v1/schema/.

Every operation gets its credentials and scope, its problem answers, the headers all answers have, and for
POST the Idempotency-Key.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from drf_spectacular.drainage import get_override
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema as SpectacularSchema
from drf_spectacular.renderers import OpenApiYamlRenderer
from drf_spectacular.utils import OpenApiParameter
from rest_framework import permissions, serializers

from ntd_site import api, api_calls, bodies, problems
from ntd_site.idempotency import is_required

AREAS = {
    "sandboxes": "Run untrusted code in isolated sandboxes.",
    "federation": "Agents, their topology, tasks, messages and decisions.",
    "billing": "Credits, usage and invoices.",
    "account": "The account, its members and its API keys.",
    "scaling": "Nodes, scaling groups and balancers: the operator's.",
}
PROBLEM = {
    "type": "object",
    "description": "What went wrong, by RFC 9457. `code` is stable and meant for programs.",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "A sentence for people."},
        "code": {"type": "string", "enum": sorted(problems.STATUS_OF_CODE)},
        "errors": {
            "type": "object",
            "description": "With `validation_error`: messages by field.",
            "additionalProperties": {"type": "array", "items": {"type": "string"}},
        },
    },
}
HEADERS = {
    "X-Request-ID": ("The request's id, taken from the request or made.", "string"),
    "X-RateLimit-Limit": ("Calls a minute.", "integer"),
    "X-RateLimit-Remaining": ("Calls left in this minute.", "integer"),
    "X-RateLimit-Reset": ("Unix time at which the minute ends.", "integer"),
}


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "ntd_site.api.BearerAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "An API key: `Authorization: Bearer ntd_...`"}


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "ntd_site.api.SessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": "sessionid",
            "description": "The browser's session; writes also need the X-CSRFToken header.",
        }


class AutoSchema(SpectacularSchema):
    """Tags by area, and what our plumbing adds to every view."""

    def get_tags(self) -> list[str]:
        return [getattr(self.view, "scope_area", None) or "operating"]

    def get_description(self) -> str:
        return "\n\n".join(part for part in (super().get_description(), self._needs(), self._costs()) if part)

    def _costs(self) -> str:
        is_free = self._is_for_accounts() and api_calls.is_free(self.view, getattr(self.view, "action", None))
        return "Calling it costs no credits." if is_free else ""

    def _needs(self) -> str:
        if api.is_staff_act(self.view):
            return "Staff only."
        scope = api.scope_needed(self.view, self.method)
        return f"Needs the scope `{scope}`." if scope else ""

    def get_override_parameters(self) -> list[Any]:
        found = list(super().get_override_parameters())
        if self._is_for_accounts():
            found.append(OpenApiParameter("account", str, description="Account to act in: id or slug."))
        if self.method == "POST" and self._is_for_accounts():
            found.append(self._idempotency_key())
        return found

    def _is_for_accounts(self) -> bool:
        classes = self.view.permission_classes
        return permissions.AllowAny not in classes

    def _idempotency_key(self) -> OpenApiParameter:
        return OpenApiParameter(
            "Idempotency-Key",
            {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[\x21-\x7e]+$"},
            OpenApiParameter.HEADER,
            required=is_required(self.view),
            description="The same key and body again get the first answer, with `Idempotent-Replayed: true`.",
        )

    def get_serializer_name(self, serializer: Any, direction: Any) -> str:
        """With its app: two apps may both have a `NodeOut`."""
        app = type(serializer).__module__.partition(".")[0]
        return f"{app}.{super().get_serializer_name(serializer, direction)}"

    def _get_serializer_field_meta(self, field: Any, direction: Any) -> dict[str, Any]:
        """Any JSON value includes null, which OpenAPI must not be told a second time."""
        found: dict[str, Any] = super()._get_serializer_field_meta(field, direction)
        if isinstance(field, serializers.JSONField) or get_override(field, "field") == {}:
            found.pop("nullable", None)
        return found

    def get_request_serializer(self) -> Any:
        """What the parser checks is what the document shows."""
        return getattr(self.view, "request_serializer", None) or super().get_request_serializer()


def describe_errors(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Post-processing hook: problem answers and headers on every operation."""
    components = result.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = PROBLEM
    components["headers"] = {
        name: {"description": text, "schema": {"type": kind}} for name, (text, kind) in HEADERS.items()
    }
    components["responses"] = {code: _problem_answer(code) for code in problems.STATUS_OF_CODE}
    components["responses"]["problem"] = _problem_answer()
    result["paths"] = {_plain(path, operations): operations for path, operations in result["paths"].items()}
    _refuse_unknown_fields(components["schemas"], result["paths"])
    for path, operations in result["paths"].items():
        for method, operation in operations.items():
            if isinstance(operation, dict) and "responses" in operation:
                _complete(operation, path=path, method=method)
    result["tags"] = [{"name": name, "description": text} for name, text in AREAS.items()]
    return result


def _plain(path: str, operations: dict[str, Any]) -> str:
    """The contract's `federations/{id}/agents`, whatever the code calls the id."""
    names = re.findall(r"{(\w+_pk)}", path)
    if len(names) != 1 or "{id}" in path:
        return path
    for operation in operations.values():
        for parameter in operation.get("parameters", []) if isinstance(operation, dict) else []:
            if parameter["name"] == names[0]:
                parameter["name"] = "id"
    return path.replace(names[0], "id")


def _problem_answer(code: str = "") -> dict[str, Any]:
    text = f"`{code}`" if code else "Any other problem."
    return {
        "description": text,
        "headers": _headers(),
        "content": {problems.CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def _headers() -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in HEADERS}


def _complete(operation: dict[str, Any], *, path: str, method: str) -> None:
    answers = operation["responses"]
    for answer in answers.values():
        answer.setdefault("headers", {}).update(_headers())
    codes = {"429": "rate_limited"}
    if operation.get("security") != [{}]:
        codes |= {"401": "not_authenticated", "403": "missing_scope"}
    if "{" in path:
        codes["404"] = "not_found"
    if operation.get("parameters") or operation.get("requestBody"):
        codes["400"] = "validation_error"
    if operation.get("requestBody"):
        codes |= {"413": "payload_too_large", "415": "unsupported_media_type"}
    if method == "post" and "401" in codes:
        codes |= {"409": "conflict", "422": "idempotency_key_reused"}
    for status, code in codes.items():
        answers.setdefault(status, {"$ref": f"#/components/responses/{code}"})
    answers.setdefault("default", {"$ref": "#/components/responses/problem"})


def _refuse_unknown_fields(schemas: dict[str, Any], paths: dict[str, Any]) -> None:
    """The parser refuses unknown fields, so the request schemas say `additionalProperties: false`."""
    waiting = [
        content["schema"]
        for operations in paths.values()
        for operation in operations.values()
        if isinstance(operation, dict)
        for content in operation.get("requestBody", {}).get("content", {}).values()
        if "schema" in content
    ]
    seen: set[str] = set()
    while waiting:
        for name in re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(waiting.pop())):
            if name in seen or name not in schemas:
                continue
            seen.add(name)
            if schemas[name].get("type") == "object" and schemas[name].get("properties"):
                schemas[name].setdefault("additionalProperties", False)
            waiting.append(schemas[name])


@functools.cache
def document() -> dict[str, Any]:
    """The OpenAPI document; made once a process, since code does not change while it runs."""
    found: dict[str, Any] = SchemaGenerator(api_version="v1").get_schema(request=None, public=True)
    return found


@functools.cache
def _written(kind: str) -> tuple[bytes, str]:
    if kind == "json":
        body = json.dumps(document(), indent=1).encode()
    else:
        body = OpenApiYamlRenderer().render(document(), renderer_context={})
    return body, f'"{hashlib.sha256(body).hexdigest()[:16]}"'


@require_safe
def schema(request: HttpRequest) -> HttpResponse:
    """The contract: JSON on `Accept: application/json`, else YAML. Open to anyone."""
    wants_json = request.accepts("application/json") and not request.accepts("application/yaml")
    kind = "json" if wants_json else "yaml"
    body, tag = _written(kind)
    headers = {"ETag": tag, "Vary": "Accept", "Cache-Control": "no-cache"}
    if request.headers.get("If-None-Match") == tag:
        return HttpResponse(status=304, headers=headers)
    return HttpResponse(body, content_type=f"application/{kind}", headers=headers)


def has_request_body(view: Any) -> bool:
    """Whether the parser knows the fields of this view's requests (asked by the tests)."""
    return bodies.request_serializer(view) is not None
