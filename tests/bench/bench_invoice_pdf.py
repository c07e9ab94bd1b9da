"""An invoice as PDF, of one line and of two hundred, against the page that says the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from django.template.loader import render_to_string
from django.utils import timezone

from billing import accounts, documents, invoicing, paper
from tests import ledger_cast
from tests.bench.harness import Bench, Case, timed


@contextmanager
def cases() -> Iterator[dict[str, Case]]:
    account = accounts.open_account(name="Bench", credits=1000)
    ledger_cast.use(account, "mcp_call", 10, now=timezone.now())
    preview = invoicing.preview(account=account, now=timezone.now())
    short = documents.of_preview(preview, account=account)
    long = replace(short, lines=short.lines * 200)
    yield {
        "page, 1 line": timed(lambda: render_to_string("billing/_document.html", {"document": short})),
        "PDF, 1 line": timed(lambda: paper.pdf(short)),
        "PDF, 200 lines": timed(lambda: paper.pdf(long)),
    }


BENCH = Bench(name="invoice_pdf", baseline="page, 1 line", cases=cases, repeats=10, note="a PDF takes less than 1 s")
