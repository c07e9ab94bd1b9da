"""Answers of the API that are files."""

from __future__ import annotations

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse

from billing import paper
from billing.documents import Document

PDF = OpenApiResponse(OpenApiTypes.BINARY, "A PDF file.")
CSV = OpenApiResponse(OpenApiTypes.STR, "A CSV file with a head line.")


def pdf(document: Document, *, name: str) -> HttpResponse:
    return _file(paper.pdf(document), name=f"{name}.pdf", kind="application/pdf")


def csv(text: str, *, name: str) -> HttpResponse:
    return _file(text, name=f"{name}.csv", kind="text/csv; charset=utf-8")


def _file(content: bytes | str, *, name: str, kind: str) -> HttpResponse:
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "private, no-store"}
    return HttpResponse(content, content_type=kind, headers=headers)
