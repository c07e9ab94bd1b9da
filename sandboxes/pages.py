"""Pages of a list, newest first: by position, so that they stay right while new rows come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import Q
from django.http import HttpRequest

SIZE = 50


@dataclass(frozen=True, slots=True)
class Page:
    results: list[Any]
    previous_url: str | None
    next_url: str | None


def newest(rows: Any, request: HttpRequest, *, size: int = SIZE) -> Page:
    """The page that `?before=<id>` or `?after=<id>` names; a mark that is gone or strange gives the first."""
    before, after = _mark(rows, request.GET.get("before")), _mark(rows, request.GET.get("after"))
    if after is not None:
        found = list(rows.filter(_newer(after)).order_by("created_at", "pk")[: size + 1])
        shown = found[:size][::-1]
        return _page(request, shown, has_newer=len(found) > size, has_older=True)
    marked = rows.filter(_older(before)) if before is not None else rows
    found = list(marked.order_by("-created_at", "-pk")[: size + 1])
    return _page(request, found[:size], has_newer=before is not None, has_older=len(found) > size)


def _mark(rows: Any, text: str | None) -> Any:
    try:
        return rows.filter(pk=UUID(text)).first() if text else None
    except ValueError:
        return None


def _older(mark: Any) -> Q:
    return Q(created_at__lt=mark.created_at) | Q(created_at=mark.created_at, pk__lt=mark.pk)


def _newer(mark: Any) -> Q:
    return Q(created_at__gt=mark.created_at) | Q(created_at=mark.created_at, pk__gt=mark.pk)


def _page(request: HttpRequest, results: list[Any], *, has_newer: bool, has_older: bool) -> Page:
    if not results:
        return Page([], None, None)
    return Page(
        results,
        _url(request, after=results[0].pk) if has_newer else None,
        _url(request, before=results[-1].pk) if has_older else None,
    )


def _url(request: HttpRequest, **mark: Any) -> str:
    query = request.GET.copy()
    for name in ("before", "after"):
        query.pop(name, None)
    for name, value in mark.items():
        query[name] = str(value)
    return f"?{query.urlencode()}"
