"""What stands around every API request, outside DRF: sizes, slashes, rate headers, who pays, a last net for errors."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from ntd_site import api_calls, problems, rates

Respond = Callable[[HttpRequest], HttpResponse]


class ApiMiddleware:
    """Makes every answer under /api/v1/ one of the contract's, whoever gave it."""

    def __init__(self, get_response: Respond) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not problems.is_api(request):
            return self.get_response(request)
        response = _refused(request)
        if response is None:
            if request.path_info.endswith("/"):  # answers the same with and without
                request.path_info = request.path_info[:-1]
            response = self.get_response(request)
        response = _as_problem(response)
        api_calls.count(request, response)
        _add_rate_headers(request, response)
        response.headers.setdefault("Cache-Control", "no-store")
        return response


def _refused(request: HttpRequest) -> HttpResponse | None:
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not str(length).isdecimal():
        return problems.plain_response("validation_error", errors={"Content-Length": ["Must be a number."]})
    if int(length) > limit:
        sentence = f"The request body is larger than {limit} bytes."
        return problems.plain_response("payload_too_large", sentence, limit=limit)
    if "\x00" in request.path_info:
        return problems.plain_response("not_found")
    if any("\x00" in value for values in request.GET.lists() for value in [values[0], *values[1]]):
        return problems.plain_response("validation_error", errors={"query": ["NUL characters are not allowed."]})
    return None


def _as_problem(response: HttpResponse) -> HttpResponse:
    """Django's own error pages (DEBUG's too) become problems; nothing of a traceback leaves."""
    kind = response.headers.get("Content-Type", "")
    if response.status_code < 400 or "json" in kind or response.streaming:
        return response
    code = problems.CODE_OF_STATUS.get(response.status_code, "internal_error")
    made = problems.plain_response(code, status=response.status_code)
    for name in ("Allow", "Retry-After", "WWW-Authenticate"):
        if name in response.headers:
            made.headers[name] = response.headers[name]
    return made


def _add_rate_headers(request: HttpRequest, response: HttpResponse) -> None:
    rate = getattr(request, "rate", None)
    if rate is None:  # it never reached the throttle, so it counts for its address
        rate = rates.take(f"address:{rates.address(request)}", limit=settings.RATE_LIMIT_PER_MINUTE)
    response.headers["X-RateLimit-Limit"] = str(rate.limit)
    response.headers["X-RateLimit-Remaining"] = str(rate.remaining)
    response.headers["X-RateLimit-Reset"] = str(rate.reset)
