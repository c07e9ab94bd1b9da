"""Numbers of invoices and credit notes: one after the other in each series and year, with no gap."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from django.db import transaction

from billing.models import InvoiceSeries


class Number(NamedTuple):
    series: InvoiceSeries
    sequence: int
    text: str


def take(*, prefix: str, now: datetime) -> Number:
    """The next number of the year. Its row stays locked until the end, so what is rolled back leaves no gap."""
    assert transaction.get_connection().in_atomic_block
    wanted = {"prefix": prefix, "year": now.year}
    InvoiceSeries.objects.get_or_create(**wanted)
    series = InvoiceSeries.objects.select_for_update().get(**wanted)
    series.last_number += 1
    series.save(update_fields=["last_number"])
    return Number(series, series.last_number, f"{prefix}{series.year}-{series.last_number:04d}")
