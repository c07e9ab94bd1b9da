"""Errors of the API: application/problem+json with the contract's codes.

whatever is raised --describe()--> (code, detail, extras) --problem()--> body
                                    code --STATUS_OF_CODE--> status
Domain exceptions say their `code` themselves (and may have `extras` and `retry_after`), so no view
catches them. What nobody expected is logged with its traceback and answered as `internal_error`.
"""

from __future__ import annotations

import json
import logging
import math
from typing import Any, NamedTuple

import redis
from django.core.exceptions import (
    BadRequest,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
)
from django.core.exceptions import ValidationError as DjangoValidationError
from django.core.signals import got_request_exception
from django.db import DataError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from rest_framework import exceptions
from rest_framework.response import Response

log = logging.getLogger(__name__)
CONTENT_TYPE = "application/problem+json"
STATUS_OF_CODE = {
    "validation_error": 400,
    "not_authenticated": 401,
    "insufficient_credits": 402,
    "budget_exceeded": 402,
    "payment_required": 402,
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
    "credit_exceeds_invoice": 422,
    "resource_limit_exceeded": 429,
    "rate_limited": 429,
    "internal_error": 500,
    "config_error": 500,
    "not_implemented": 501,
    "payment_error": 502,
    "network_error": 502,
    "sandbox_error": 503,
    "federation_error": 503,
    "scaling_error": 503,
    "database_error": 503,
    "timeout": 504,
}
# The usual code of a status, for answers that come without one (Django's own error pages).
CODE_OF_STATUS = {
    400: "validation_error",
    401: "not_authenticated",
    403: "missing_scope",
    404: "not_found",
    405: "method_not_allowed",
    413: "payload_too_large",
    415: "unsupported_media_type",
    429: "rate_limited",
}
DETAILS = {
    "validation_error": "The request is not one this server can read.",
    "not_found": "There is nothing here, or not for you.",
    "internal_error": "Something broke on our side and was logged. Name the X-Request-ID when you ask for help.",
    "missing_scope": "You may not do this.",
    "database_error": "The database or Redis does not answer at the moment. Try again shortly.",
}


class Problem(exceptions.APIException):
    """A problem of the contract, raised by shared plumbing."""

    def __init__(self, code: str, detail: str, *, retry_after: float | None = None, **extras: Any) -> None:
        self.status_code = STATUS_OF_CODE[code]
        self.code = code
        self.extras = extras
        self.retry_after = retry_after
        super().__init__(detail, code)


class Found(NamedTuple):
    """What an exception means to the caller; `status` only where it is not the code's own."""

    code: str
    detail: str
    extras: dict[str, Any]
    status: int | None = None


def title(code: str) -> str:
    return "CSRF check failed" if code == "csrf_failed" else code.replace("_", " ").capitalize()


def problem(code: str, detail: str, *, status: int | None = None, **extras: Any) -> dict[str, Any]:
    """The body of a problem: type, title, status, detail, code and the code's extras."""
    fixed = {
        "type": f"/api/docs/#problem-{code}",
        "title": title(code),
        "status": status or STATUS_OF_CODE[code],
        "detail": detail,
        "code": code,
    }
    return {**extras, **fixed}


def plain_response(code: str, detail: str = "", *, status: int | None = None, **extras: Any) -> HttpResponse:
    """A problem outside DRF: for middleware and error pages."""
    body = problem(code, detail or DETAILS.get(code, title(code) + "."), status=status, **extras)
    return HttpResponse(json.dumps(body), status=body["status"], content_type=CONTENT_TYPE)


def is_api(request: HttpRequest) -> bool:
    return request.path_info.startswith("/api/v1/") or request.path_info == "/api/v1"


def problem_response(exception: Exception, context: dict[str, Any]) -> HttpResponse:
    """DRF's exception handler."""
    answer = getattr(exception, "answer", None)
    if isinstance(answer, HttpResponse):  # a replay of idempotency.py
        return answer
    found = describe(exception)
    if found is None:
        found = _unexpected(exception, context)
    status = found.status or STATUS_OF_CODE[found.code]
    body = problem(found.code, found.detail, status=status, **found.extras)
    response = Response(body, status=status, content_type=CONTENT_TYPE)
    wait = getattr(exception, "retry_after", None) or getattr(exception, "wait", None)
    if wait is None and found.code in ("database_error", "rate_limited", "resource_limit_exceeded"):
        wait = 1
    if wait:
        response["Retry-After"] = str(max(1, math.ceil(wait)))
    for name, value in getattr(exception, "headers", {}).items():
        response[name] = value
    if status == 401:
        response["WWW-Authenticate"] = getattr(exception, "auth_header", None) or 'Bearer realm="ntd"'
    return response


def _unexpected(exception: Exception, context: dict[str, Any]) -> Found:
    view = type(context.get("view")).__name__
    log.error("unexpected %s in %s", type(exception).__name__, view, exc_info=exception)
    # Django's own signal for it: tests raise on it, and error trackers listen to it.
    request = getattr(context.get("request"), "_request", None)
    got_request_exception.send(sender=problem_response, request=request)
    return Found("internal_error", DETAILS["internal_error"], {})


def describe(exception: Exception) -> Found | None:
    """What the exception means in the contract's words; None when nobody expected it."""
    code = getattr(exception, "code", None)
    if isinstance(code, str) and code in STATUS_OF_CODE and not isinstance(exception, DjangoValidationError):
        extras = dict(getattr(exception, "extras", None) or {})
        detail = str(getattr(exception, "detail", None) or exception) or DETAILS.get(code, title(code) + ".")
        return Found(code, detail, extras)
    if isinstance(exception, exceptions.APIException):
        return _of_framework(exception)
    return _of_django(exception)


def _of_framework(exception: exceptions.APIException) -> Found:
    if isinstance(exception, exceptions.ValidationError):
        return _invalid(field_errors(exception.detail))
    if isinstance(exception, exceptions.ParseError):
        return _invalid({"non_field_errors": [str(exception.detail)]})
    if isinstance(exception, exceptions.NotFound):
        return Found("not_found", DETAILS["not_found"], {})
    code = CODE_OF_STATUS.get(exception.status_code, "internal_error")
    return Found(code, str(exception.detail), {})


def _of_django(exception: Exception) -> Found | None:
    match exception:
        case Http404():
            return Found("not_found", DETAILS["not_found"], {})
        case PermissionDenied():
            return Found("missing_scope", DETAILS["missing_scope"], {})
        case DjangoValidationError():
            return _invalid(_django_errors(exception))
        case RequestDataTooBig():
            return Found("payload_too_large", "The request body is larger than this endpoint takes.", {})
        case SuspiciousOperation() | BadRequest():
            return _invalid({"non_field_errors": [DETAILS["validation_error"]]})
        case DataError():
            log.warning("refused by the database: %s", exception)
            return _invalid({"non_field_errors": ["A value does not fit what the database can hold."]})
        case OperationalError() | InterfaceError() | redis.ConnectionError() | redis.TimeoutError():
            log.error("no answer from the database or Redis: %s", exception)
            return Found("database_error", DETAILS["database_error"], {})
    return None


def _invalid(errors: dict[str, list[str]]) -> Found:
    return Found("validation_error", "Some fields are not valid.", {"errors": errors})


def _django_errors(exception: DjangoValidationError) -> dict[str, list[str]]:
    if hasattr(exception, "error_dict"):
        return dict(exception.message_dict)
    return {"non_field_errors": list(exception.messages)}


def field_errors(detail: Any, prefix: str = "") -> dict[str, list[str]]:
    """DRF's nested error details as flat `field.path -> [messages]`."""
    if isinstance(detail, dict):
        return _merged(((str(name), inner) for name, inner in detail.items()), prefix)
    if isinstance(detail, list) and any(isinstance(item, dict | list) for item in detail):
        return _merged(((str(index), inner) for index, inner in enumerate(detail) if inner), prefix)
    messages = [str(item) for item in detail] if isinstance(detail, list) else [str(detail)]
    return {prefix or "non_field_errors": messages}


def _merged(named: Any, prefix: str) -> dict[str, list[str]]:
    merged: dict[str, list[str]] = {}
    for name, inner in named:
        own = name == "non_field_errors" and prefix
        path = prefix if own else f"{prefix}.{name}" if prefix else name
        for field, messages in field_errors(inner, path).items():
            merged.setdefault(field, []).extend(messages)
    return merged
