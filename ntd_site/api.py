"""What every API endpoint shares. Apps reach it by the dotted paths in settings, never by import.

who        BearerAuthentication, SessionAuthentication -> request.user (a principal), request.account
may        ScopePermission: `<scope_area>:read|write` of the view; `staff_only`, `staff_actions`
body       StrictJSONParser: JSON objects only, unknown fields refused
lists      NewestFirst: {"results", "next", "previous"} by cursor
errors     problem_response: application/problem+json with the contract's codes
"""

from __future__ import annotations

import math
from typing import Any

from django.core.exceptions import PermissionDenied
from django.core.exceptions import ValidationError as DjangoValidationError
from django.http import Http404
from django.utils import timezone
from rest_framework import (
    authentication,
    exceptions,
    pagination,
    parsers,
    permissions,
    renderers,
    serializers,
    throttling,
)
from rest_framework.request import Request
from rest_framework.response import Response

from billing import keys
from billing.models import Account

STATUS_OF_CODE = {
    "validation_error": 400,
    "not_authenticated": 401,
    "insufficient_credits": 402,
    "budget_exceeded": 402,
    "missing_scope": 403,
    "staff_required": 403,
    "role_required": 403,
    "csrf_failed": 403,
    "not_an_elector": 403,
    "network_not_allowed": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "conflict": 409,
    "stale_epoch": 409,
    "no_agents": 409,
    "backend_required": 409,
    "gone": 410,
    "payload_too_large": 413,
    "unsupported_media_type": 415,
    "idempotency_key_reused": 422,
    "refund_exceeds_payment": 422,
    "resource_limit_exceeded": 429,
    "rate_limited": 429,
    "internal_error": 500,
    "not_implemented": 501,
    "payment_error": 502,
    "network_error": 502,
    "sandbox_error": 503,
    "federation_error": 503,
    "scaling_error": 503,
    "database_error": 503,
    "config_error": 500,
    "timeout": 504,
}
TITLES = {
    code: {"csrf_failed": "CSRF check failed"}.get(code, code.replace("_", " ").capitalize()) for code in STATUS_OF_CODE
}


# --- who -------------------------------------------------------------------------------------------


class BearerAuthentication(authentication.BaseAuthentication):
    """`Authorization: Bearer ntd_...`: an API key of an account."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        kind, _, secret = request.headers.get("Authorization", "").partition(" ")
        if not kind:
            return None
        if kind.lower() != "bearer" or not secret.startswith(keys.PREFIX):
            raise exceptions.AuthenticationFailed("Use the header `Authorization: Bearer ntd_...` with an API key.")
        principal = keys.authenticate(secret.strip(), now=timezone.now())
        if principal is None:
            raise exceptions.AuthenticationFailed("This API key is unknown, revoked or expired.")
        request._request.account = account_of(request, principal)
        return principal, principal.key

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="ntd"'


class SessionAuthentication(authentication.SessionAuthentication):
    """The browser's session, with CSRF."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        found = super().authenticate(request)
        if found is not None:
            request._request.account = account_of(request, found[0])
        return found

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="ntd"'

    def enforce_csrf(self, request: Request) -> None:
        try:
            super().enforce_csrf(request)
        except exceptions.PermissionDenied as refused:
            raise Problem(
                "csrf_failed", "The CSRF token is missing or wrong. Reload the page and try again."
            ) from refused


def account_of(request: Request, principal: Any) -> Account | None:
    """The account a request acts in: `?account=` (id or slug), else the key's, else the person's first."""
    visible = Account.objects.visible_to(principal)
    asked = request.query_params.get("account")
    if asked:
        by_slug = visible.filter(slug=asked).first()
        account = by_slug or _by_id(visible, asked)
        if account is None:
            raise Http404("No such account.")
        return account
    if isinstance(principal, keys.KeyPrincipal):
        return principal.key.account
    mine = Account.objects.filter(principal.membership_filter())
    return mine.order_by("created_at", "pk").first()


def _by_id(accounts: Any, text: str) -> Account | None:
    try:
        return accounts.filter(pk=text).first()
    except DjangoValidationError:
        return None


# --- may -------------------------------------------------------------------------------------------


class ScopePermission(permissions.BasePermission):
    """Signed in, with the area's scope, and an editing role for writes; some acts are staff's."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not request.user or not request.user.is_authenticated:
            raise exceptions.NotAuthenticated("Send an API key as `Authorization: Bearer ntd_...`, or sign in.")
        if _is_staff_act(view) and not request.user.is_staff:
            raise Problem("staff_required", "Only staff may do this.")
        area = getattr(view, "scope_area", None)
        if area is None:
            return True
        writes = request.method not in permissions.SAFE_METHODS
        scope = f"{area}:{'write' if writes else 'read'}"
        if not request.user.has_scope(scope):
            raise Problem("missing_scope", f"This needs the scope {scope}.")
        if writes:
            _require_role(request)
        return True


def _is_staff_act(view: Any) -> bool:
    action = getattr(view, "action", None)
    return getattr(view, "staff_only", False) or action in getattr(view, "staff_actions", ())


def _require_role(request: Request) -> None:
    account = getattr(request._request, "account", None)
    if account and not Account.objects.editable_by(request.user).filter(pk=account.pk).exists():
        raise Problem("role_required", "A viewer cannot change anything. Ask an owner for the operator role.")


# --- body ------------------------------------------------------------------------------------------


class StrictJSONParser(parsers.JSONParser):
    """JSON whose fields the view's request serializer knows; anything else is a 400 that names it."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        parsed = super().parse(stream, media_type, parser_context)
        serializer = _request_serializer((parser_context or {}).get("view"))
        if serializer is not None:
            errors = unknown_fields(parsed, serializer)
            if errors:
                raise exceptions.ValidationError(errors)
        return parsed


def _request_serializer(view: Any) -> serializers.BaseSerializer[Any] | None:
    # Function-based views and views without a body have none.
    if view is None or not hasattr(view, "get_serializer_class"):
        return None
    found = view.get_serializer_class()
    return found(context={"view": view}) if found else None


def unknown_fields(value: Any, serializer: Any) -> dict[str, Any]:
    """Errors for every field of `value` that the serializer does not have, at any depth."""
    if isinstance(serializer, serializers.ListSerializer):
        serializer = serializer.child
    fields = getattr(serializer, "fields", None)
    if fields is None:
        return {}
    if not isinstance(value, dict):
        return {"non_field_errors": ["Send a JSON object."]}
    writable = {name: field for name, field in fields.items() if not field.read_only}
    errors: dict[str, Any] = {name: ["Unknown field."] for name in value if name not in writable}
    for name, field in writable.items():
        nested = _nested_errors(value.get(name), field)
        if nested:
            errors[name] = nested
    return errors


def _nested_errors(value: Any, field: Any) -> Any:
    if isinstance(field, serializers.ListSerializer) and isinstance(value, list):
        found = {str(index): unknown_fields(item, field.child) for index, item in enumerate(value)}
        return {index: errors for index, errors in found.items() if errors}
    if isinstance(field, serializers.Serializer) and isinstance(value, dict):
        return unknown_fields(value, field)
    return {}


class JSONRenderer(renderers.JSONRenderer):
    charset = None


# --- lists -----------------------------------------------------------------------------------------


class NewestFirst(pagination.CursorPagination):
    """Cursor pages, newest first, `page_size` 1..200."""

    ordering = ("-created_at", "-id")
    page_size_query_param = "page_size"
    max_page_size = 200

    def get_page_size(self, request: Request) -> int:
        asked = request.query_params.get(self.page_size_query_param)
        if asked is None:
            return int(self.page_size or 50)
        if not asked.isdecimal() or not 1 <= int(asked) <= self.max_page_size:
            raise exceptions.ValidationError({"page_size": [f"Must be a number from 1 to {self.max_page_size}."]})
        return int(asked)

    def decode_cursor(self, request: Request) -> Any:
        try:
            return super().decode_cursor(request)
        except exceptions.NotFound as invalid:
            raise exceptions.ValidationError({"cursor": ["Not a cursor of this list."]}) from invalid


class PerMinuteThrottle(throttling.SimpleRateThrottle):
    """Calls per key (or person) and minute; a key may have its own number."""

    scope = "minute"

    def get_rate(self) -> str:
        from django.conf import settings

        return f"{settings.RATE_LIMIT_PER_MINUTE}/min"

    def get_cache_key(self, request: Request, view: Any) -> str | None:
        if not request.user or not request.user.is_authenticated:
            return None
        return f"throttle:{request.user.pk}"


# --- errors ----------------------------------------------------------------------------------------


class Problem(exceptions.APIException):
    """A problem of the contract, raised by shared plumbing."""

    def __init__(self, code: str, detail: str, **extras: Any) -> None:
        self.status_code = STATUS_OF_CODE[code]
        self.code = code
        self.extras = extras
        super().__init__(detail, code)


def problem(code: str, detail: str, *, status: int | None = None, **extras: Any) -> dict[str, Any]:
    """The body of a problem: type, title, status, detail, code and the code's extras."""
    body = {
        "type": f"/api/docs/#problem-{code}",
        "title": TITLES.get(code, "Error"),
        "status": status or STATUS_OF_CODE[code],
        "detail": detail,
        "code": code,
    }
    return {**body, **extras}


def problem_response(exception: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler. Domain exceptions carry `code` (and maybe `extras`, `retry_after`)."""
    found = _describe(exception)
    if found is None:
        return None
    code, detail, extras = found
    status = STATUS_OF_CODE[code]
    response = Response(problem(code, detail, **extras), status=status, content_type="application/problem+json")
    wait = getattr(exception, "retry_after", None) or getattr(exception, "wait", None)
    if wait:
        response["Retry-After"] = str(max(1, math.ceil(wait)))
    challenge = getattr(exception, "auth_header", None)
    if status == 401:
        response["WWW-Authenticate"] = challenge or 'Bearer realm="ntd"'
    return response


def _describe(exception: Exception) -> tuple[str, str, dict[str, Any]] | None:
    if isinstance(exception, exceptions.ValidationError):
        return "validation_error", "Some fields are not valid.", {"errors": field_errors(exception.detail)}
    if isinstance(exception, Http404 | exceptions.NotFound):
        return "not_found", "There is nothing here, or not for you.", {}
    if isinstance(exception, PermissionDenied):
        return "missing_scope", "You may not do this.", {}
    code = getattr(exception, "code", None)
    if isinstance(code, str) and code in STATUS_OF_CODE:
        return code, str(getattr(exception, "detail", None) or exception), dict(getattr(exception, "extras", {}) or {})
    if isinstance(exception, exceptions.APIException):
        return _CODE_OF_DRF.get(type(exception), "validation_error"), str(exception.detail), {}
    return None


_CODE_OF_DRF = {
    exceptions.NotAuthenticated: "not_authenticated",
    exceptions.AuthenticationFailed: "not_authenticated",
    exceptions.PermissionDenied: "missing_scope",
    exceptions.MethodNotAllowed: "method_not_allowed",
    exceptions.NotAcceptable: "validation_error",
    exceptions.UnsupportedMediaType: "unsupported_media_type",
    exceptions.Throttled: "rate_limited",
    exceptions.ParseError: "validation_error",
}


def field_errors(detail: Any, prefix: str = "") -> dict[str, list[str]]:
    """DRF's nested error details as flat `field.path -> [messages]`."""
    if isinstance(detail, dict):
        merged: dict[str, list[str]] = {}
        for name, inner in detail.items():
            merged |= field_errors(inner, f"{prefix}.{name}" if prefix else str(name))
        return merged
    if isinstance(detail, list) and any(isinstance(item, dict | list) for item in detail):
        merged = {}
        for index, inner in enumerate(detail):
            if inner:
                merged |= field_errors(inner, f"{prefix}.{index}" if prefix else str(index))
        return merged
    messages = [str(item) for item in detail] if isinstance(detail, list) else [str(detail)]
    return {prefix or "non_field_errors": messages}
