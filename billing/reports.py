"""What was used and what is left, summed for pages and the API. Reads only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db.models import DateTimeField, F, Func, QuerySet, Sum, Value
from django.db.models.functions import TruncDay, TruncMonth

from billing import ledger, periods
from billing.models import Account, ApiKey, UsageRecord

WINDOWS = {"day": TruncDay, "month": TruncMonth}
LONGEST = {"hour": timedelta(days=62), "day": timedelta(days=732), "month": timedelta(days=7320), "": None}
BURN_DAYS = 7


@dataclass(frozen=True)
class Range:
    """Which usage: an account's, in [start, end), of a meter, by an agent, for an API key."""

    account_id: UUID
    start: datetime
    end: datetime
    meter: str = ""
    agent: str = ""
    api_key: UUID | None = None

    def records(self) -> QuerySet[UsageRecord]:
        found = UsageRecord.objects.filter(
            account_id=self.account_id, occurred_at__gte=self.start, occurred_at__lt=self.end
        )
        if self.meter:
            found = found.filter(meter=self.meter)
        if self.agent:
            found = found.filter(agent=self.agent)
        if self.api_key:
            found = found.filter(api_key=self.api_key)
        return found


def used(wanted: Range, *, zone: ZoneInfo, window: str = "", by_whom: str = "") -> list[dict[str, Any]]:
    """Quantity and cost by meter; when asked by window of the zone's clock, and by `agent` or `api_key`; in order."""
    records = wanted.records()
    by = ["meter", by_whom] if by_whom else ["meter"]
    if window:
        records = records.annotate(window_start=_window_start(window, zone))
        by = ["window_start", *by]
    sums = records.values(*by).annotate(quantity=Sum("quantity"), cost_ucr=Sum("cost_ucr"))
    return list(sums.order_by(*by))


def _window_start(window: str, zone: ZoneInfo) -> Any:
    """An hour by PostgreSQL itself: Django takes the zone off, and then two hours have one name when clocks go back."""
    if window == "hour":
        moment = [Value("hour"), F("occurred_at"), Value(zone.key)]
        return Func(*moment, function="date_trunc", output_field=DateTimeField())
    return WINDOWS[window]("occurred_at", tzinfo=zone)


def used_by_agent(wanted: Range) -> list[dict[str, Any]]:
    """Who used most, dearest first."""
    sums = wanted.records().exclude(agent="").values("agent").annotate(cost_ucr=Sum("cost_ucr"))
    return list(sums.order_by("-cost_ucr", "agent")[:20])


def used_by_key(wanted: Range) -> list[dict[str, Any]]:
    """Which API keys used most, with their names, dearest first."""
    sums = wanted.records().exclude(api_key=None).values("api_key").annotate(cost_ucr=Sum("cost_ucr"))
    rows = list(sums.order_by("-cost_ucr", "api_key")[:20])
    names = labels_of_keys(account_id=wanted.account_id, keys=[row["api_key"] for row in rows])
    return [{**row, "name": names[row["api_key"]]} for row in rows]


def names_of_keys(*, account_id: UUID, keys: Iterable[UUID]) -> dict[UUID, str]:
    """What people call them, also those that were revoked or deleted since; a key of another account is staff's."""
    wanted = set(keys)
    found = ApiKey.objects.filter(pk__in=wanted).values_list("pk", "name", "account", "revoked_at")
    known = {pk: _key_name(name, owner == account_id, revoked_at) for pk, name, owner, revoked_at in found}
    return {pk: known.get(pk, f"Deleted key …{str(pk)[-4:]}") for pk in wanted}


def labels_of_keys(*, account_id: UUID, keys: Iterable[UUID]) -> dict[UUID, str]:
    """For people: as names_of_keys, and what a key ends in where several have one name."""
    names = names_of_keys(account_id=account_id, keys=keys)
    often = Counter(names.values())
    alike = [pk for pk, name in names.items() if often[name] > 1]
    hints = dict(ApiKey.objects.filter(pk__in=alike, account=account_id).values_list("pk", "hint"))
    return {pk: f"{name} ({hints[pk]})" if pk in hints else name for pk, name in names.items()}


def _key_name(name: str, is_own: bool, revoked_at: datetime | None) -> str:
    if not is_own:
        return "A key of staff"
    return f"{name} (revoked)" if revoked_at else name


@dataclass(frozen=True)
class Day:
    """What one calendar day cost, by meter."""

    day: date
    by_meter: dict[str, int]

    @property
    def total_ucr(self) -> int:
        return sum(self.by_meter.values())


def days(wanted: Range, *, zone: ZoneInfo) -> list[Day]:
    """Every day of the range, also those on which nothing was used."""
    costs: dict[date, dict[str, int]] = {}
    for row in used(wanted, zone=zone, window="day"):
        costs.setdefault(row["window_start"].astimezone(zone).date(), {})[row["meter"]] = row["cost_ucr"]
    period = periods.Period(wanted.start, wanted.end)
    return [Day(day, costs.get(day, {})) for day in periods.days(period, zone)]


@dataclass(frozen=True)
class Outlook:
    """Where the credits are going: what is there, how fast it burns, how this period compares."""

    balance: ledger.Balance
    burn_ucr_a_day: int
    days_left: int | None
    empty_at: datetime | None
    period: periods.Period
    used_ucr: int
    used_before_ucr: int
    last_days_ucr: tuple[int, ...]

    @property
    def change(self) -> Decimal | None:
        """This period so far against the same stretch of the last, as a share."""
        if not self.used_before_ucr:
            return None
        return Decimal(self.used_ucr - self.used_before_ucr) / self.used_before_ucr


def outlook(*, account: Account, now: datetime) -> Outlook:
    zone = ZoneInfo(account.time_zone)
    balance = ledger.balance(account_id=account.pk, now=now)
    cadence = periods.Cadence(account.billing_period)
    period = periods.containing(now, cadence, zone)
    before = periods.preceding(period, cadence, zone)
    same_stretch = min(before.start + (now - period.start), before.end)
    today = periods.containing(now, periods.Cadence.DAILY, zone)
    week = days(Range(account.pk, today.start - timedelta(days=BURN_DAYS - 1), today.end), zone=zone)
    burn = _burn_a_day(account, now)
    left = max(0, balance.available_ucr) // burn if burn else None
    # Beyond ten years it is not a forecast.
    left = left if left is not None and left <= 3650 else None
    return Outlook(
        balance=balance,
        burn_ucr_a_day=burn,
        days_left=left,
        empty_at=now + timedelta(days=left) if left is not None else None,
        period=period,
        used_ucr=_cost(Range(account.pk, period.start, period.end)),
        used_before_ucr=_cost(Range(account.pk, before.start, same_stretch)),
        last_days_ucr=tuple(day.total_ucr for day in week),
    )


def _burn_a_day(account: Account, now: datetime) -> int:
    """What the last week cost by the day; of an account that is younger, its days so far, one at least."""
    lived = min(timedelta(days=BURN_DAYS), max(timedelta(days=1), now - account.created_at))
    cost = _cost(Range(account.pk, now - timedelta(days=BURN_DAYS), now + timedelta(minutes=5)))
    return cost * 86_400 // int(lived.total_seconds())


def _cost(wanted: Range) -> int:
    return wanted.records().aggregate(sum=Sum("cost_ucr"))["sum"] or 0
