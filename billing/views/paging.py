"""One page of a list, and where the next one is; and a page that is a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

SIZE = 50


@dataclass(frozen=True)
class Page:
    results: list[Any]
    next_url: str | None
    previous_url: str | None
    note: str = ""


def page(request: HttpRequest, rows: QuerySet[Any], *, size: int = SIZE) -> Page:
    """The page of `?page=`; a number that makes no sense is the first page."""
    asked = request.GET.get("page", "1")
    number = max(1, int(asked[:6])) if asked.isascii() and asked.isdecimal() else 1
    start = (number - 1) * size
    found = list(rows[start : start + size + 1])
    has_more = len(found) > size
    note = f"{start + 1}–{start + min(len(found), size)}" if found and (has_more or number > 1) else ""
    return Page(
        results=found[:size],
        next_url=_address(request, number + 1) if has_more else None,
        previous_url=_address(request, number - 1) if number > 1 else None,
        note=note,
    )


def _address(request: HttpRequest, number: int) -> str:
    query = request.GET.copy()
    query["page"] = str(number)
    return f"?{query.urlencode()}"


def download(content: bytes | str, *, name: str, kind: str) -> HttpResponse:
    """A file, never kept by whoever passes it on: an invoice's state may change."""
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "private, no-store"}
    return HttpResponse(content, content_type=kind, headers=headers)
