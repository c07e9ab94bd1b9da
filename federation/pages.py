"""One page of a list on a screen: newest first, by a key that does not shift when rows are added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import HttpRequest

ROWS = 50


@dataclass(frozen=True, slots=True)
class Page:
    results: list[Any]
    next_url: str | None
    previous_url: str | None
    note: str = ""


def newest(rows: QuerySet[Any], request: HttpRequest, *, size: int = ROWS) -> Page:
    """`?before=<id>` goes on to older rows, `?after=<id>` back to newer ones. Ids rise with time."""
    before, after = _ident(request, "before"), _ident(request, "after")
    if after is not None:
        found = list(rows.filter(pk__gt=after).order_by("pk")[: size + 1])
        more_new, results = len(found) > size, found[:size][::-1]
        return Page(
            results, _url(request, "before", results), _url(request, "after", results[:1]) if more_new else None
        )
    if before is not None:
        rows = rows.filter(pk__lt=before)
    found = list(rows.order_by("-pk")[: size + 1])
    results = found[:size]
    older = _url(request, "before", results) if len(found) > size else None
    return Page(results, older, _url(request, "after", results[:1]) if before else None)


def _ident(request: HttpRequest, name: str) -> UUID | None:
    try:
        return UUID(request.GET.get(name, ""))
    except ValueError:
        return None


def _url(request: HttpRequest, name: str, results: list[Any]) -> str | None:
    if not results:
        return None
    query = request.GET.copy()
    for other in ("before", "after"):
        query.pop(other, None)
    query[name] = str(results[-1].pk)
    return f"{request.path}?{query.urlencode()}"
