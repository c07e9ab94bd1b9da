"""Error pages: problems under /api/, pages with the request's id elsewhere."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template import loader

from ntd_site import problems


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, 400)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, 403, reason=str(exception) if exception.args else "")


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _answer(request, 404)


def server_error(request: HttpRequest) -> HttpResponse:
    return _answer(request, 500)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    sentence = "Your session or this form was too old. Go back, reload the page and try again."
    return _answer(request, 403, reason=sentence, code="csrf_failed")


def _answer(request: HttpRequest, status: int, *, reason: str = "", code: str = "") -> HttpResponse:
    if problems.is_api(request):
        code = code or problems.CODE_OF_STATUS.get(status, "internal_error")
        return problems.plain_response(code, reason, status=status)
    context: dict[str, Any] = {"request_id": getattr(request, "id", ""), "reason": reason}
    if status == 500:  # without the request: what every page asks the database for may be what broke
        return HttpResponse(loader.render_to_string("500.html", context), status=500)
    return render(request, f"{status}.html", context, status=status)
