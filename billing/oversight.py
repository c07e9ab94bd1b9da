"""What staff look at across accounts: revenue, unused credits, the ledger, holds that are stuck. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Count, Q, QuerySet, Sum

from billing import periods, pricing
from billing.models import CreditNoteLine, Entry, Grant, Hold, LedgerAccount, Transaction

# A hold that has been active for so long belongs to work that should have ended.
LONG_HELD = timedelta(hours=24)
# The sweep ends holds within seconds of their expiry; this late it does not.
OVERDUE = timedelta(minutes=1)
MOST_HOLDS = 200
# What somebody gave; bought credits go back with their money.
GIVEN_BY = ("accounts", "staff", "api:grants")


@dataclass(frozen=True)
class Revenue:
    """What one meter brought in, in micro-credits; and what credit notes took off it again, in minor units."""

    meter: str
    name: str
    charged_ucr: int
    reversed_ucr: int
    credited: int

    @property
    def net_ucr(self) -> int:
        return self.charged_ucr - self.reversed_ucr


def revenue(period: periods.Period) -> list[Revenue]:
    """By meter, in the order people know; spending that has no meter comes last."""
    rows = Entry.objects.filter(
        ledger_account__kind=LedgerAccount.Kind.REVENUE,
        created_at__gte=period.start,
        created_at__lt=period.end,
    ).values("ledger_account__code")
    sums = rows.annotate(
        charged=Sum("amount_ucr", filter=Q(amount_ucr__gt=0), default=0),
        undone=Sum("amount_ucr", filter=Q(amount_ucr__lt=0), default=0),
    )
    by_meter = {row["ledger_account__code"].partition(":")[2]: row for row in sums}
    credited = _credited(period)
    order = [*pricing.Meter, *sorted((by_meter.keys() | credited.keys()) - set(pricing.Meter))]
    return [
        Revenue(
            meter=meter,
            name=pricing.DEFAULT_BOOK[meter].name if meter in pricing.DEFAULT_BOOK else meter or "Other",
            charged_ucr=by_meter[meter]["charged"] if meter in by_meter else 0,
            reversed_ucr=-by_meter[meter]["undone"] if meter in by_meter else 0,
            credited=credited.get(meter, 0),
        )
        for meter in order
        if meter in by_meter or meter in credited
    ]


def _credited(period: periods.Period) -> dict[str, int]:
    lines = CreditNoteLine.objects.filter(note__created_at__gte=period.start, note__created_at__lt=period.end)
    return dict(lines.values_list("line__meter").annotate(sum=Sum("amount")).values_list("line__meter", "sum"))


def breakage_ucr(period: periods.Period) -> int:
    """Credits that expired unused."""
    lapsed = Entry.objects.filter(ledger_account__kind=LedgerAccount.Kind.BREAKAGE)
    found = lapsed.filter(created_at__gte=period.start, created_at__lt=period.end)
    return found.aggregate(sum=Sum("amount_ucr"))["sum"] or 0


def liability(*, now: datetime) -> list[dict[str, Any]]:
    """Unused credits by where they came from, with how many of them expire within 30 days."""
    unused = Grant.objects.filter(is_open=True).exclude(expires_at__lte=now)
    soon = Q(expires_at__lte=now + timedelta(days=30))
    sums = unused.values("category").annotate(
        unused_ucr=Sum("remaining_ucr"),
        soon_ucr=Sum("remaining_ucr", filter=soon, default=0),
        accounts=Count("account", distinct=True),
    )
    labels = dict(Grant.Category.choices)
    return [{**row, "name": labels[row["category"]]} for row in sums.order_by("-unused_ucr")]


def owed() -> dict[str, int]:
    """What wallets hold aside and what they owe, all together."""
    sums = LedgerAccount.objects.filter(kind=LedgerAccount.Kind.WALLET).aggregate(
        held_ucr=Sum("held_ucr", default=0),
        debt_ucr=Sum("debt_ucr", default=0),
        posted_ucr=Sum("posted_ucr", default=0),
    )
    return dict(sums)


def stuck_holds(*, now: datetime) -> list[Hold]:
    """Active holds past their expiry, or held for longer than work takes; oldest first."""
    late = Q(expires_at__lt=now - OVERDUE) | Q(created_at__lt=now - LONG_HELD)
    rows = Hold.objects.filter(late, state=Hold.State.ACTIVE).select_related("account")
    return list(rows.order_by("created_at", "pk")[:MOST_HOLDS])


def transactions(*, asked: str = "", kind: str = "") -> QuerySet[Transaction]:
    """The last written first; `asked` is an id, or the beginning of a key or a source."""
    rows = Transaction.objects.select_related("account").order_by("-pk")
    if kind in Transaction.Kind.values:
        rows = rows.filter(kind=kind)
    if not asked:
        return rows
    found = Q(key__startswith=asked) | Q(source__startswith=asked)
    try:
        found |= Q(pk=UUID(asked)) | Q(account=UUID(asked)) | Q(entries__pk=UUID(asked))
    except ValueError:
        found |= Q(account__slug=asked)
    return rows.filter(found).distinct()


def may_be_taken_back(found: Transaction) -> bool:
    """Whether staff may reverse it by hand: what was spent, and what was given and not bought."""
    if found.kind in (Transaction.Kind.CHARGE, Transaction.Kind.CAPTURE):
        return True
    return found.kind == Transaction.Kind.GRANT and found.source in GIVEN_BY
