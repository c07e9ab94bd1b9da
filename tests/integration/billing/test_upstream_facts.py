"""What the original crate's tests assert of usage, credits and billing; P10 belongs to payments."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from billing import accounts, invoicing, ledger, periods, pricing, reports
from billing.models import UsageRecord
from tests import factories
from tests import ledger_cast as cast
from tests.ledger_cast import NOON, UCR

pytestmark = pytest.mark.django_db
MARCH = periods.Period(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))


def test_p1_default_prices_are_1_for_an_mcp_call_and_100_for_a_sandbox_hour():
    assert pricing.cost_ucr("mcp_call", Decimal(1)) == 1 * UCR
    assert pricing.cost_ucr("sandbox_second", Decimal(3600)) == 100 * UCR


def test_p2_100_mcp_calls_2_sandbox_hours_and_50_inferences_cost_800():
    account = cast.make_account(1000)

    used = [cast.use(account, *each) for each in (("mcp_call", 100), ("sandbox_second", 7200), ("inference", 50))]

    assert sum(record.cost_ucr for record in used) == 800 * UCR


def test_p3_usage_adds_up():
    account = cast.make_account(1000)
    for calls, requests in ((50, 1000), (30, 500)):
        cast.use(account, "mcp_call", calls)
        cast.use(account, "api_call", requests)

    assert quantities(account) == {"mcp_call": 80, "api_call": 1500}


def test_p4_two_mcp_records_and_one_api_record_count_2_and_1():
    account = cast.make_account(1000)
    for meter in ("mcp_call", "mcp_call", "api_call"):
        cast.use(account, meter, 1)

    assert quantities(account) == {"mcp_call": 2, "api_call": 1}


def quantities(account):
    wanted = reports.Range(account.pk, MARCH.start, MARCH.end)
    return {row["meter"]: row["quantity"] for row in reports.used(wanted, zone=UTC)}


def test_p5_an_account_opened_with_1000_has_1000_and_is_active():
    account = cast.make_account(1000)

    assert (cast.available(account), account.status) == (1000, "active")


def test_p6_1000_and_500_less_200_is_1300_and_2000_cannot_be_taken():
    account = cast.make_account(1000)
    cast.give(account, 500, category="paid")
    assert cast.available(account) == 1500
    cast.charge(account, 200)
    assert cast.available(account) == 1300

    with pytest.raises(ledger.InsufficientCredits):
        cast.charge(account, 2000)

    assert cast.available(account) == 1300


def test_p7_an_account_opens_at_the_default_of_1000_and_500_more_make_1500():
    account = accounts.open_account(name="Acme", owner=factories.make_user())
    assert cast.available(account) == 1000

    cast.give(account, 500, category="paid")

    assert cast.available(account) == 1500
    cast.hold(account, 1000)


def test_p8_100_mcp_calls_and_50_inferences_make_an_invoice_of_600_credits_with_2_lines():
    account = cast.make_account(1000)
    cast.use(account, "mcp_call", 100)
    cast.use(account, "inference", 50)

    draft, _ = invoicing.generate(account=account, period=MARCH, now=NOON)

    lines = list(draft.lines.all())
    assert (draft.state, len(lines), sum(line.cost_ucr for line in lines)) == ("draft", 2, 600 * UCR)
    assert sum(line.amount for line in lines) == draft.total == 600


def test_p9_no_usage_still_makes_an_invoice_which_becomes_paid_at_a_time():
    draft, _ = invoicing.generate(account=cast.make_account(1000), period=MARCH, now=NOON)

    paid = invoicing.finalize(invoice_id=draft.pk, now=MARCH.end)

    assert (paid.total, paid.state, paid.paid_at) == (0, "paid", MARCH.end)
    assert not UsageRecord.objects.exists()


def test_the_readmes_sample_leaves_749():
    account = cast.make_account(1000)

    cast.use(account, "mcp_call", 1)
    cast.use(account, "sandbox_second", 9000)

    assert cast.available(account) == 749
