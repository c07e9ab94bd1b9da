"""What every request gets: an id, the account of its path, and whether it wants a partial."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any

import structlog
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse

from billing.models import EDITING_ROLES, Account, Membership

Respond = Callable[[HttpRequest], HttpResponse]
REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


class RequestIdMiddleware:
    """Takes `X-Request-ID` or makes one; returns it and puts it on every log line."""

    def __init__(self, get_response: Respond) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-ID", "")
        request.id = given if REQUEST_ID.fullmatch(given) else str(uuid.uuid4())
        structlog.contextvars.bind_contextvars(request_id=request.id)
        response = self.get_response(request)
        response["X-Request-ID"] = request.id
        return response


class PartialMiddleware:
    """`request.wants_partial`: an htmx request for a piece, not a boosted page or a history restore."""

    def __init__(self, get_response: Respond) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        htmx = request.htmx
        request.wants_partial = bool(htmx) and not htmx.boosted and not htmx.history_restore_request
        return self.get_response(request)


class AccountMiddleware:
    """Under /o/<account>/ the slug becomes the Account, if the user may see it; else 404, never 403."""

    def __init__(self, get_response: Respond) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.account = None
        request.role = ""
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Callable[..., HttpResponse], args: list[Any], kwargs: dict[str, Any]
    ) -> HttpResponse | None:
        slug = kwargs.get("account")
        if slug is None or not request.path_info.startswith("/o/"):
            return None
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        account = Account.objects.visible_to(request.user).filter(slug=slug).first()
        if account is None:
            raise Http404("No such account.")
        kwargs["account"] = request.account = account
        request.role = role_of(request.user, account)
        request.session["account"] = account.slug
        return None


def role_of(user: Any, account: Account) -> str:
    if user.is_staff:
        return "staff"
    role: str = Membership.objects.values_list("role", flat=True).get(user=user, account=account)
    return role


def page_context(request: HttpRequest) -> dict[str, Any]:
    """What base.html needs on every page."""
    role = getattr(request, "role", "")
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return {"account": None, "role": "", "can_edit": False, "accounts": []}
    account = getattr(request, "account", None)
    if account is None:
        # Pages without an account in the path (profile, staff) keep the navigation of the last one.
        mine = Account.objects.visible_to(user)
        account = mine.filter(slug=request.session.get("account", "")).first() or mine.order_by("created_at").first()
        role = role_of(user, account) if account else ""
    return {
        "account": account,
        "role": role,
        "can_edit": role == "staff" or role in EDITING_ROLES,
        "accounts": Account.objects.visible_to(user).order_by("name", "pk")[:50],
    }
