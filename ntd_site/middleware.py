"""What every request gets: an id, the account of its path, whether it wants a partial, and words for failures."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from typing import Any

import structlog
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import render

from billing.models import EDITING_ROLES, Account, Membership
from ntd_site import problems, rates

Respond = Callable[[HttpRequest], HttpResponse]
REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
ONLY_FORMS = "Only a form is sent to this address. Go back to the page and press its button there."


class RequestIdMiddleware:
    """Takes `X-Request-ID` or makes one; returns it and puts it on every log line."""

    def __init__(self, get_response: Respond) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.META.get("HTTP_X_REQUEST_ID", "")
        request.id = given if REQUEST_ID.fullmatch(given) else str(uuid.uuid4())
        # django_structlog, further in, reads the header and binds it to the log lines.
        request.META["HTTP_X_REQUEST_ID"] = request.id
        request.address = rates.address(request)
        structlog.contextvars.clear_contextvars()
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
        if request.session.get("account") != account.slug:
            request.session["account"] = account.slug
        return None


class PageErrorsMiddleware:
    """A domain exception nobody caught in a page view: a toast for htmx, else a page; its status either way.

    Whoever opens the address that a form is sent to gets a page too, and not the empty one that Django answers.
    """

    def __init__(self, get_response: Respond) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if not isinstance(response, HttpResponseNotAllowed) or request.method != "GET" or problems.is_api(request):
            return response
        shown = _page_of(request, problems.Found("method_not_allowed", ONLY_FORMS, {}))
        shown["Allow"] = response["Allow"]
        return shown

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        code = getattr(exception, "code", None)
        if problems.is_api(request) or not isinstance(code, str) or code not in problems.STATUS_OF_CODE:
            return None
        found = problems.describe(exception)
        if found is None:
            return None
        response = _page_of(request, found)
        wait = getattr(exception, "retry_after", None)
        if wait:
            response["Retry-After"] = str(max(1, round(wait)))
        return response


def _page_of(request: HttpRequest, found: problems.Found) -> HttpResponse:
    status = problems.STATUS_OF_CODE[found.code]
    if getattr(request, "wants_partial", False):
        toast = {"toast": {"level": "error", "text": found.detail}}
        return HttpResponse(status=status, headers={"HX-Trigger": json.dumps(toast), "HX-Reswap": "none"})
    context = {"title": problems.title(found.code), "sentence": found.detail, "request_id": request.id}
    return render(request, "problem.html", context | {"back": _back(request)}, status=status)


def _back(request: HttpRequest) -> str:
    """The page the person came from, when it is one of ours."""
    came_from = request.headers.get("Referer", "")
    own = f"{request.scheme}://{request.get_host()}/"
    return came_from if came_from.startswith(own) else "/"


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
        account = (
            mine.filter(slug=request.session.get("account", "")).first() or mine.order_by("created_at", "pk").first()
        )
        role = role_of(user, account) if account else ""
    return {
        "account": account,
        "role": role,
        "can_edit": role == "staff" or role in EDITING_ROLES,
        "accounts": Account.objects.visible_to(user).order_by("name", "pk")[:50],
    }
