"""usage/events, usage, usage/export, prices."""

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from tests import ledger_cast
from tests.api.billing.conftest import Caller


def event(**changes):
    return {"id": "e1", "source": "robot", "meter": "mcp_call", "quantity": "3"} | changes


def test_one_event_is_recorded_and_charged(alice):
    answer = alice.post("usage/events", event(properties={"tool": "quotes"}, agent="alpha"))

    assert answer.status_code == 201, answer.json()
    found = answer.json()
    assert (found["id"], found["status"], found["cost_credits"]) == ("e1", "accepted", "3.000000")
    assert alice.get(f"ledger/transactions/{found['transaction']}").status_code == 200


def test_a_duplicate_is_200_with_the_first_answer_and_charged_once(alice):
    first = alice.post("usage/events", event()).json()

    answer = alice.post("usage/events", event())

    assert (answer.status_code, answer.json()) == (200, first | {"status": "duplicate"})
    assert alice.get("account/balance").json()["available"] == "997.000000"


def test_the_same_id_with_other_contents_is_409(alice):
    alice.post("usage/events", event())

    answer = alice.post("usage/events", event(quantity="4"))

    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


def test_an_event_that_cannot_be_paid_is_402_and_leaves_its_id_free(db):
    poor = Caller(ledger_cast.make_account(2))
    assert poor.post("usage/events", event()).json()["detail"] == "Insufficient credits: need 3, have 2"
    ledger_cast.give(poor.account, 5)

    assert poor.post("usage/events", event()).status_code == 201


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"quantity": 3}, "quantity"), ({"quantity": "0"}, "quantity"), ({"quantity": "-1"}, "quantity"),
        ({"quantity": "NaN"}, "quantity"), ({"quantity": "1e3"}, "quantity"), ({"quantity": "1.0000000001"}, "quantity"),
        ({"quantity": "1000000000000000000"}, "quantity"), ({"meter": "minutes"}, "meter"), ({"id": ""}, "id"),
        ({"source": None}, "source"), ({"colour": "red"}, "colour"), ({"properties": [1]}, "properties"),
        ({"properties": {"a": "\x00"}}, "properties"), ({"occurred_at": "yesterday"}, "occurred_at"),
        ({"occurred_at": "2020-01-01T00:00:00Z"}, "occurred_at"), ({"occurred_at": "2099-01-01T00:00:00Z"}, "occurred_at"),
    ],
)  # fmt: skip
def test_bad_events_are_refused_by_name(alice, change, field):
    answer = alice.post("usage/events", event(**change))

    assert (answer.status_code, list(answer.json()["errors"])) == (400, [field])


def test_a_backslash_that_somebody_typed_is_no_null_character(alice):
    assert alice.post("usage/events", event(properties={"path": "C:\\x00\\u0000"})).status_code == 201


def test_several_events_are_answered_one_by_one_in_order(db):
    caller = Caller(ledger_cast.make_account(10))
    events = [
        event(id="a", quantity="4"),
        event(id="a", quantity="4"),
        event(id="a", quantity="5"),
        event(id="b", quantity="7"),
        event(id="c", quantity="none"),
        event(id="d", quantity="6"),
        event(id="e", colour="red"),
        "not an event",
        None,
    ]

    answer = caller.post("usage/events", {"events": events})

    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [row["status"] for row in results] == [
        "accepted", "duplicate", "conflict", "insufficient_credits", "invalid", "accepted", "invalid", "invalid",
        "invalid",
    ]  # fmt: skip
    assert results[3]["detail"] == "Insufficient credits: need 7, have 6"
    assert caller.get("account/balance").json()["available"] == "0.000000"


@pytest.mark.parametrize("body", [{"events": []}, {"events": [event()] * 1001}, {"events": [event()], "id": "x"}, {}])
def test_bad_batches_are_400(alice, body):
    assert alice.post("usage/events", body).status_code == 400


def test_usage_is_summed_by_meter_for_the_running_period(alice):
    ledger_cast.use(alice.account, "sandbox_second", 1800, now=timezone.now())
    ledger_cast.use(alice.account, "sandbox_second", 1800, now=timezone.now())
    ledger_cast.use(alice.account, "mcp_call", 2, now=timezone.now(), agent="alpha")

    rows = alice.get("usage").json()["results"]

    assert [(row["meter"], row["quantity"], row["credits"]) for row in rows] == [
        ("mcp_call", "2", "2.000000"),
        ("sandbox_second", "3600", "100.000000"),
    ]
    assert [row["meter"] for row in alice.get("usage", agent="alpha").json()["results"]] == ["mcp_call"]
    assert [row["meter"] for row in alice.get("usage", meter="mcp_call").json()["results"]] == ["mcp_call"]


def test_usage_is_grouped_by_the_days_of_the_accounts_zone(db):
    caller = Caller(ledger_cast.make_account(100, time_zone="Europe/Berlin"))
    for hour in (21, 22, 23):
        ledger_cast.use(caller.account, "mcp_call", 1, now=datetime(2026, 7, 1, hour, 30, tzinfo=UTC))

    answer = caller.get("usage", **{"from": "2026-07-01T00:00:00Z", "to": "2026-07-03T00:00:00Z", "window": "day"})

    assert [(row["window_start"], row["quantity"]) for row in answer.json()["results"]] == [
        ("2026-06-30T22:00:00Z", "1"),
        ("2026-07-01T22:00:00Z", "2"),
    ]


@pytest.mark.parametrize(
    ("zone", "starts"),
    [
        ("America/New_York", ["05:00", "06:00"]),  # both are one o'clock there
        ("Australia/Lord_Howe", ["05:00", "06:00"]),
        ("Asia/Kathmandu", ["05:15", "06:15"]),
    ],
)
def test_hours_are_told_apart_when_clocks_go_back(db, zone, starts):
    caller = Caller(ledger_cast.make_account(100, time_zone=zone))
    for hour in (5, 6):
        ledger_cast.use(caller.account, "mcp_call", 1, now=datetime(2026, 11, 1, hour, 30, tzinfo=UTC))

    answer = caller.get("usage", **{"from": "2026-11-01T00:00:00Z", "to": "2026-11-02T00:00:00Z", "window": "hour"})

    rows = answer.json()["results"]
    assert [(row["window_start"], row["quantity"]) for row in rows] == [
        (f"2026-11-01T{start}:00Z", "1") for start in starts
    ]


@pytest.mark.parametrize(
    "query",
    [{"meter": "minutes"}, {"window": "week"}, {"by": "name"}, {"api_key": "x"}, {"from": "x"}, {"from": "2026-07-02T00:00:00Z", "to": "2026-07-01T00:00:00Z"},
     {"from": "2020-01-01T00:00:00Z", "to": "2026-07-01T00:00:00Z", "window": "hour"}],
)  # fmt: skip
def test_bad_usage_filters_are_400(alice, query):
    assert alice.get("usage", **query).status_code == 400


def test_usage_is_exported_as_csv_that_no_spreadsheet_runs(alice):
    ledger_cast.use(alice.account, "mcp_call", 2, now=timezone.now(), agent="=HYPERLINK()", key="e")

    answer = alice.get("usage/export")

    assert answer["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.getvalue().decode())))
    assert [(row["meter"], row["quantity"], row["credits"], row["agent"]) for row in rows] == [
        ("mcp_call", "2", "2.000000", "'=HYPERLINK()")
    ]


def test_usage_is_grouped_and_chosen_by_key_and_by_agent(alice):
    alice.post("usage/events", event(agent="alpha"))
    ledger_cast.use(alice.account, "mcp_call", 2, now=timezone.now())
    key = str(alice.account.api_keys.get().pk)

    by_key = alice.get("usage", by="key").json()["results"]
    assert all("api_key" not in row for row in alice.get("usage").json()["results"])
    by_agent = alice.get("usage", by="agent", window="day").json()["results"]
    only = alice.get("usage", api_key=key).json()["results"]
    lines = list(csv.DictReader(io.StringIO(alice.get("usage/export").getvalue().decode())))

    found = [(row["api_key"], row["api_key_name"], row["quantity"], row["credits"]) for row in by_key]
    assert found == [(key, "test", "3", "3.000000"), (None, "", "2", "2.000000")]
    assert [(row["agent"], row["quantity"]) for row in by_agent] == [("", "2"), ("alpha", "3")]
    assert [row["quantity"] for row in only] == ["3"]
    assert sorted((line["api_key"], line["api_key_name"]) for line in lines) == [("", ""), (key, "test")]


def test_usage_of_others_is_not_shown(alice, charlie):
    ledger_cast.use(alice.account, "mcp_call", 2, now=timezone.now())

    assert charlie.get("usage").json()["results"] == []
    assert charlie.get("usage", account=str(alice.account.pk)).status_code == 404


def test_prices_are_those_of_the_specification(alice):
    rows = alice.get("prices").json()["results"]

    assert {row["meter"]: (row["credits"], row["per"], row["unit"]) for row in rows} == {
        "mcp_call": ("1.000000", "1", "call"),
        "sandbox_second": ("100.000000", "3600", "second"),
        "inference": ("10.000000", "1", "inference"),
        "data_byte": ("50.000000", "1000000000", "byte"),
        "api_call": ("20.000000", "1000", "call"),
        "agent_second": ("80.000000", "3600", "second"),
    }


def test_an_estimate_adds_up(alice):
    items = [{"meter": "mcp_call", "quantity": "1"}, {"meter": "sandbox_second", "quantity": "9000"}]

    found = alice.post("prices/estimate", {"items": items}).json()

    assert found["total_credits"] == "251.000000"
    assert [item["credits"] for item in found["items"]] == ["1.000000", "250.000000"]


@pytest.mark.parametrize("items", [[], [{"meter": "x", "quantity": "1"}], [{"meter": "mcp_call"}], "all"])
def test_bad_estimates_are_400(alice, items):
    assert alice.post("prices/estimate", {"items": items}).status_code == 400


def test_usage_takes_the_same_number_of_queries_however_much_there_is(alice, django_assert_max_num_queries):
    for _ in range(5):
        ledger_cast.use(alice.account, "mcp_call", 2, now=timezone.now() - timedelta(seconds=1))
    alice.get("usage", window="day")

    with django_assert_max_num_queries(4):
        alice.get("usage", window="day")


@pytest.mark.parametrize(
    "moment", ["2026-07-01", "2026-07-01T00:00:00", "2026-07-01 00:00:00Z", "0001-01-01T00:00:00Z", ""]
)
def test_a_time_without_a_zone_or_beyond_the_calendar_is_400(alice, moment):
    assert alice.get("usage", to=moment).status_code == 400


def test_usage_until_a_moment_is_that_of_its_period(alice):
    ledger_cast.use(alice.account, "mcp_call", 1)

    rows = alice.get("usage", to="2026-04-01T00:00:00Z").json()["results"]

    assert [row["quantity"] for row in rows] == ["1"]
