"""Pure. Half-open calendar periods [start, end) of a time zone, as UTC moments.

A day begins at the first moment the zone's clocks show its date: a day with a clock change has 23 or 25
hours, and where midnight itself is skipped the day begins at the change.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo


class Cadence(StrEnum):
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    YEARLY = "yearly"
    # Invoiced when asked for; prices and rounding still run by calendar months.
    PAY_AS_YOU_GO = "pay_as_you_go"


@dataclass(frozen=True, order=True)
class Period:
    start: datetime
    end: datetime

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment < self.end

    def overlaps(self, other: Period) -> bool:
        return self.start < other.end and other.start < self.end


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """The first moment of a day in the zone, in UTC."""
    # fold=0 picks the earlier of two midnights, and the change itself for a midnight that is skipped.
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def containing(moment: datetime, cadence: Cadence, zone: ZoneInfo) -> Period:
    """The period a moment falls in."""
    first = first_day(_local_date(moment, zone), cadence)
    return Period(midnight(first, zone), midnight(_next_first(first, cadence), zone))


def following(period: Period, cadence: Cadence, zone: ZoneInfo) -> Period:
    return containing(period.end, cadence, zone)


def preceding(period: Period, cadence: Cadence, zone: ZoneInfo) -> Period:
    return containing(period.start - timedelta(microseconds=1), cadence, zone)


def days(period: Period, zone: ZoneInfo) -> Iterator[date]:
    """The calendar days a period touches, in order."""
    day = _local_date(period.start, zone)
    while midnight(day, zone) < period.end:
        yield day
        day += timedelta(days=1)


def _local_date(moment: datetime, zone: ZoneInfo) -> date:
    """The day whose half-open stretch of time holds the moment.

    Where clocks go back over midnight, the wall shows the old date again within the new day's stretch.
    """
    day = moment.astimezone(zone).date()
    tomorrow = day + timedelta(days=1)
    return tomorrow if midnight(tomorrow, zone) <= moment else day


def first_day(day: date, cadence: Cadence) -> date:
    """The first day of the period that a day is in."""
    match cadence:
        case Cadence.DAILY:
            return day
        case Cadence.WEEKLY:
            return day - timedelta(days=day.weekday())
        case Cadence.MONTHLY | Cadence.PAY_AS_YOU_GO:
            return day.replace(day=1)
        case Cadence.YEARLY:
            return day.replace(month=1, day=1)


def _next_first(first: date, cadence: Cadence) -> date:
    match cadence:
        case Cadence.DAILY:
            return first + timedelta(days=1)
        case Cadence.WEEKLY:
            return first + timedelta(days=7)
        case Cadence.MONTHLY | Cadence.PAY_AS_YOU_GO:
            return (first + timedelta(days=32)).replace(day=1)
        case Cadence.YEARLY:
            return first.replace(year=first.year + 1)
