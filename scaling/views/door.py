"""The door of staff's pages, and their lists."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse

View = Callable[..., HttpResponse]
ROWS = 50


def staff_only(view: View) -> View:
    """This will answer 404 to everyone else, as if there were nothing here."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not request.user.is_staff:
            raise Http404("No such page.")
        return view(request, *args, **kwargs)

    return guarded


def page_of(request: HttpRequest, rows: QuerySet[Any]) -> dict[str, Any]:
    """One page of a list, as `_pager.html` wants it."""
    found = Paginator(rows, ROWS).get_page(request.GET.get("page"))
    return {
        "results": found.object_list,
        "previous_url": _url(request, found.previous_page_number()) if found.has_previous() else None,
        "next_url": _url(request, found.next_page_number()) if found.has_next() else None,
        "note": f"{found.start_index()}–{found.end_index()} of {found.paginator.count}"  # noqa: RUF001 - a range
        if found.has_other_pages()
        else "",
    }


def _url(request: HttpRequest, number: int) -> str:
    asked = request.GET.copy()
    asked["page"] = str(number)
    return f"?{asked.urlencode()}"
