"""Pages of a federation's memory: what is remembered, one entry with its versions and what is near it."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from billing.models import Account
from federation import memory as remembered
from federation import pages, vectors
from federation.models import MemoryEntry, MemoryNamespace
from federation.views.shared import one, tab

NEIGHBOURS = 8
SHOWN_JSON = 20_000


@require_safe
def memory(request: HttpRequest, account: Account, pk: UUID) -> HttpResponse:
    federation = one(request, account, pk)
    spaces = list(MemoryNamespace.objects.filter(federation=federation).order_by("name"))
    wanted, prefix = request.GET.get("namespace", ""), request.GET.get("q", "").strip()[:200].replace("\x00", "")
    space = next((each for each in spaces if each.name == wanted), spaces[0] if spaces else None)
    shown: dict[str, Any] = {"spaces": spaces, "space": space, "q": prefix, "usage": remembered.usage(federation)}
    if space is not None:
        rows = MemoryEntry.objects.present(timezone.now()).filter(namespace=space).defer("embedding")
        shown["page"] = page = pages.newest(rows.filter(key__startswith=prefix), request)
        for row in page.results:
            row.shown = row.value if isinstance(row.value, str) else json.dumps(row.value, ensure_ascii=False)
    return tab(request, federation, "memory", shown, part="_memory_table")


@require_safe
def entry(request: HttpRequest, account: Account, pk: UUID, namespace: str, key: str) -> HttpResponse:
    federation = one(request, account, pk)
    now = timezone.now()
    try:
        space = remembered.namespace(federation=federation, name=namespace)
        found = remembered.read(space=space, key=key, now=now)
    except remembered.NotRemembered as absent:
        raise Http404(str(absent)) from absent
    versions = [(each, _pretty(each.value)) for each in found.versions.order_by("-version")]
    shown = {
        "space": space,
        "entry": found,
        "value": _pretty(found.value),
        "is_text": isinstance(found.value, str),
        "metadata": _pretty(found.metadata) if found.metadata else "",
        "versions": versions,
        **_near(space, found),
    }
    return tab(request, federation, "memory_entry", shown)


def _near(space: MemoryNamespace, found: MemoryEntry) -> dict[str, Any]:
    if found.embedding is None:
        return {}
    try:
        near = vectors.nearest(
            space=space, embedding=found.embedding, most=NEIGHBOURS, but=found.pk, now=timezone.now()
        )
    except vectors.NoVectors as none:
        return {"no_vectors": str(none)}
    return {"near": near}


def _pretty(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    return text if len(text) <= SHOWN_JSON else text[:SHOWN_JSON] + "\n… (cut; the API gives all of it)"
