"""Rows taken in turns, so that what one federation has much of keeps nobody else's few waiting."""

from __future__ import annotations

from typing import Any

from django.db.models import F, QuerySet, Window
from django.db.models.functions import RowNumber


def fairly(rows: QuerySet[Any], *, by: str, order: str, most: int) -> QuerySet[Any]:
    """The first (by `order`) of each owner, then the second of each, and so on: at most so many."""
    turn = Window(RowNumber(), partition_by=F(by), order_by=[F(order).asc(), F("pk").asc()])
    return rows.annotate(turn=turn).order_by("turn", order, "pk")[:most]
