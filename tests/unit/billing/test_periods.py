from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import periods
from billing.periods import Cadence, Period

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Asia/Kolkata", "Asia/Beirut", "Africa/Cairo",
     "America/Havana", "Atlantic/Azores", "Pacific/Apia", "Australia/Lord_Howe", "America/Asuncion"]
).map(ZoneInfo)  # fmt: skip
MOMENTS = st.datetimes(datetime(2008, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))
CADENCES = st.sampled_from(list(Cadence))


def utc(*parts):
    return datetime(*parts, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cadence", "start", "end"),
    [
        (Cadence.DAILY, utc(2026, 3, 18), utc(2026, 3, 19)),
        (Cadence.WEEKLY, utc(2026, 3, 16), utc(2026, 3, 23)),
        (Cadence.MONTHLY, utc(2026, 3, 1), utc(2026, 4, 1)),
        (Cadence.YEARLY, utc(2026, 1, 1), utc(2027, 1, 1)),
    ],
)
def test_periods_follow_the_calendar_and_weeks_begin_on_monday(cadence, start, end):
    assert periods.containing(utc(2026, 3, 18, 12), cadence, ZoneInfo("UTC")) == Period(start, end)


@pytest.mark.parametrize(("day", "hours"), [(date(2026, 3, 29), 23), (date(2026, 10, 25), 25), (date(2026, 6, 1), 24)])
def test_a_day_with_a_clock_change_has_23_or_25_hours(day, hours):
    period = periods.containing(periods.midnight(day, BERLIN), Cadence.DAILY, BERLIN)

    assert period.end - period.start == timedelta(hours=hours)


def test_months_begin_at_the_zones_midnight():
    period = periods.containing(utc(2026, 3, 31, 22, 30), Cadence.MONTHLY, BERLIN)

    assert period == Period(utc(2026, 3, 31, 22), utc(2026, 4, 30, 22))


def test_a_day_whose_midnight_is_skipped_begins_at_the_change():
    cairo = ZoneInfo("Africa/Cairo")  # clocks went from 00:00 to 01:00 on 2024-04-26

    period = periods.containing(utc(2024, 4, 26, 10), Cadence.DAILY, cairo)

    assert period.start == utc(2024, 4, 25, 22)
    assert period.end - period.start == timedelta(hours=23)


def test_a_date_that_a_zone_skipped_has_no_period():
    apia = ZoneInfo("Pacific/Apia")  # there was no 30 December 2011

    assert periods.containing(utc(2011, 12, 30, 9, 59), Cadence.DAILY, apia).end == utc(2011, 12, 30, 10)
    assert periods.containing(utc(2011, 12, 30, 10), Cadence.DAILY, apia).start == utc(2011, 12, 30, 10)


@given(MOMENTS, CADENCES, ZONES)
def test_a_moment_is_in_its_period(moment, cadence, zone):
    assert moment in periods.containing(moment, cadence, zone)


@given(MOMENTS, CADENCES, ZONES)
def test_periods_follow_each_other_without_gap_or_overlap(moment, cadence, zone):
    period = periods.containing(moment, cadence, zone)

    assert periods.following(period, cadence, zone).start == period.end
    assert periods.preceding(period, cadence, zone).end == period.start
    assert not period.overlaps(periods.following(period, cadence, zone))


@given(MOMENTS, CADENCES, ZONES)
def test_every_moment_of_a_period_finds_the_same_period(moment, cadence, zone):
    period = periods.containing(moment, cadence, zone)

    assert periods.containing(period.start, cadence, zone) == period
    assert periods.containing(period.end - timedelta(microseconds=1), cadence, zone) == period


def test_the_end_belongs_to_the_next_period():
    march = periods.containing(utc(2026, 3, 18), Cadence.MONTHLY, ZoneInfo("UTC"))

    assert march.end not in march
    assert march.start in march


def test_a_periods_days_are_all_of_them():
    march = periods.containing(utc(2026, 3, 18), Cadence.MONTHLY, BERLIN)

    days = list(periods.days(march, BERLIN))

    assert (days[0], days[-1], len(days)) == (date(2026, 3, 1), date(2026, 3, 31), 31)
