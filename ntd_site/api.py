"""What every API endpoint shares. Apps reach it by the dotted paths in settings, never by import.

who        BearerAuthentication, SessionAuthentication -> request.user (a principal), request.account
may        ScopePermission: `<scope_area>:read|write` of the view; `staff_only`, `staff_actions`
lists      NewestFirst: {"results", "next", "previous"} by cursor
Bodies are read in bodies.py, calls counted in rates.py, repeats answered in idempotency.py, errors
written in problems.py.
"""

from __future__ import annotations

from typing import Any, NoReturn

from django.conf import settings
from django.core.exceptions import ValidationError as DjangoValidationError
from django.http import Http404
from django.utils import timezone
from rest_framework import authentication, exceptions, negotiation, pagination, permissions, renderers
from rest_framework.request import Request

from billing import keys
from billing.models import Account
from ntd_site import rates
from ntd_site.problems import Problem

CHALLENGE = 'Bearer realm="ntd"'


# --- who -------------------------------------------------------------------------------------------


class BearerAuthentication(authentication.BaseAuthentication):
    """`Authorization: Bearer ntd_...`: an API key of an account."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        kind, _, secret = request.headers.get("Authorization", "").partition(" ")
        if not kind:
            return None
        if kind.lower() != "bearer" or not secret.startswith(keys.PREFIX):
            self._refuse(request, "Use the header `Authorization: Bearer ntd_...` with an API key.")
        principal = keys.authenticate(secret.strip(), now=timezone.now())
        if principal is None:
            self._refuse(request, "This API key is unknown, revoked or expired.")
        request._request.account = account_of(request, principal)
        request._request.api_key = principal.key
        return principal, principal.key

    def authenticate_header(self, request: Request) -> str:
        return CHALLENGE

    def _refuse(self, request: Request, sentence: str) -> NoReturn:
        rates.refuse_stranger(request._request)
        raise exceptions.AuthenticationFailed(sentence)


class SessionAuthentication(authentication.SessionAuthentication):
    """The browser's session, with CSRF."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        found = super().authenticate(request)
        if found is not None:
            request._request.account = account_of(request, found[0])
        return found

    def authenticate_header(self, request: Request) -> str:
        return CHALLENGE

    def enforce_csrf(self, request: Request) -> None:
        try:
            super().enforce_csrf(request)
        except exceptions.PermissionDenied as refused:
            sentence = "The CSRF token is missing or wrong. Reload the page and try again."
            raise Problem("csrf_failed", sentence) from refused


def account_of(request: Request, principal: Any) -> Account | None:
    """The account a request acts in: `?account=` (id or slug), else the key's, else the person's first."""
    asked = request.query_params.get("account")
    if asked:
        visible = Account.objects.visible_to(principal)
        account = visible.filter(slug=asked).first() or _by_id(visible, asked)
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
            rates.refuse_stranger(request._request)
            raise exceptions.NotAuthenticated("Send an API key as `Authorization: Bearer ntd_...`, or sign in.")
        if is_staff_act(view) and not request.user.is_staff:
            raise Problem("staff_required", "Only staff may do this.")
        scope = scope_needed(view, str(request.method))
        if scope is None:
            return True
        if not request.user.has_scope(scope):
            raise Problem("missing_scope", f"This needs the scope {scope}.")
        if scope.endswith(":write"):
            _require_role(request)
        return True


def is_staff_act(view: Any) -> bool:
    action = getattr(view, "action", None)
    return bool(getattr(view, "staff_only", False)) or action in getattr(view, "staff_actions", ())


def scope_needed(view: Any, method: str) -> str | None:
    area = getattr(view, "scope_area", None)
    if area is None:
        return None
    reads = method in permissions.SAFE_METHODS or getattr(view, "action", None) in getattr(view, "read_actions", ())
    return f"{area}:{'read' if reads else 'write'}"


def _require_role(request: Request) -> None:
    account = getattr(request._request, "account", None)
    if account and account.pk == getattr(request.user, "account_id", None):
        return  # A key acts as an operator of its own account.
    if account and not Account.objects.editable_by(request.user).filter(pk=account.pk).exists():
        raise Problem("role_required", "A viewer cannot change anything. Ask an owner for the operator role.")


# --- answers ---------------------------------------------------------------------------------------


class JSONRenderer(renderers.JSONRenderer):
    charset = None


class AlwaysJSON(negotiation.DefaultContentNegotiation):
    """The API speaks one language, so an `Accept` it cannot satisfy gets JSON and not an error."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        try:
            return super().select_renderer(request, renderers, format_suffix)
        except (exceptions.NotAcceptable, Http404):
            return renderers[0], renderers[0].media_type


class NewestFirst(pagination.CursorPagination):
    """Cursor pages, newest first, `page_size` 1..200."""

    ordering = ("-created_at", "-id")
    page_size_query_param = "page_size"
    page_size_query_description = "Rows a page, 1 to 200."
    max_page_size = 200

    def get_page_size(self, request: Request) -> int:
        asked = request.query_params.get(self.page_size_query_param)
        if asked is None:
            return int(self.page_size or settings.REST_FRAMEWORK["PAGE_SIZE"])
        if not (asked.isascii() and asked.isdecimal() and len(asked) < 5 and 1 <= int(asked) <= self.max_page_size):
            raise exceptions.ValidationError({"page_size": [f"Must be a number from 1 to {self.max_page_size}."]})
        return int(asked)

    def decode_cursor(self, request: Request) -> Any:
        try:
            return super().decode_cursor(request)
        except (exceptions.NotFound, OverflowError, UnicodeError) as invalid:
            raise _bad_cursor() from invalid

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> Any:
        # A well-formed cursor of another list fails only when its position meets the database.
        try:
            return super().paginate_queryset(queryset, request, view)
        except (DjangoValidationError, ValueError, TypeError) as invalid:
            raise _bad_cursor() from invalid

    def get_schema_operation_parameters(self, view: Any) -> Any:
        cursor = {
            "name": self.cursor_query_param,
            "in": "query",
            "required": False,
            "description": "From `next` or `previous` of a page.",
            "schema": {"type": "string"},
        }
        size = {
            "name": self.page_size_query_param,
            "in": "query",
            "required": False,
            "description": self.page_size_query_description,
            "schema": {"type": "integer", "minimum": 1, "maximum": self.max_page_size, "default": 50},
        }
        return [cursor, size]

    def get_paginated_response_schema(self, schema: Any) -> Any:
        link = {"type": ["string", "null"], "format": "uri"}
        return {
            "type": "object",
            "required": ["results", "next", "previous"],
            "properties": {"results": schema, "next": link, "previous": link},
        }


def _bad_cursor() -> exceptions.ValidationError:
    return exceptions.ValidationError({"cursor": ["Not a cursor of this list."]})
