"""What staff see across accounts: it sums to the ledger, and leads from an entry to its source."""

from datetime import UTC, datetime, timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from billing import credit_notes, invoicing, ledger, oversight, periods
from billing.models import Entry, Transaction
from tests import ledger_cast as cast
from tests import payment_cast
from tests.ledger_cast import NOON, UCR
from tests.page_cast import page

pytestmark = pytest.mark.django_db
MARCH = periods.Period(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))


def test_revenue_is_what_the_ledger_earned_by_meter():
    account, other = cast.make_account(100), cast.make_account(100)
    record = cast.use(account, "mcp_call", 30)
    cast.use(other, "mcp_call", 5)
    cast.use(other, "inference", 2)
    cast.use(other, "inference", 1, now=MARCH.end)
    ledger.reverse(transaction_id=record.transaction_id, key="r", reason="", now=NOON)
    cast.capture(cast.hold(other, 9), 7)

    rows = oversight.revenue(MARCH)

    assert [(row.name, row.charged_ucr // UCR, row.net_ucr // UCR) for row in rows] == [
        ("MCP calls", 35, 5),
        ("Inferences", 20, 20),
        ("Captured from holds", 7, 7),
    ]


def test_what_credit_notes_took_off_stands_beside_the_revenue():
    account = cast.make_account(100)
    cast.use(account, "mcp_call", 30)
    draft, _ = invoicing.generate(account=account, period=MARCH, now=MARCH.end)
    invoicing.finalize(invoice_id=draft.pk, now=MARCH.end)
    credit_notes.issue(invoice_id=draft.pk, reason="r", key="k", now=NOON, amount=7)

    assert [(row.meter, row.credited) for row in oversight.revenue(MARCH)] == [("mcp_call", 7)]


def test_unused_credits_are_owed_by_where_they_came_from():
    account = cast.make_account(100)
    cast.give(account, 50, expires_at=NOON + timedelta(days=3))
    cast.give(account, 9, expires_at=NOON)
    cast.charge(account, 20)
    cast.hold(account, 10)

    rows = {row["category"]: row for row in oversight.liability(now=NOON)}

    assert {name: row["unused_ucr"] // UCR for name, row in rows.items()} == {"signup": 100, "promo": 30}
    assert rows["promo"]["soon_ucr"] == 30 * UCR
    assert oversight.owed()["held_ucr"] == 10 * UCR


def test_holds_past_their_end_and_holds_older_than_a_day_are_stuck():
    account = cast.make_account(100)
    cast.hold(account, 1, key="past")
    cast.hold(account, 1, key="fresh", now=NOON + timedelta(hours=2), expires_at=NOON + timedelta(days=9))
    cast.hold(account, 1, key="old", now=NOON - timedelta(hours=23), expires_at=NOON + timedelta(days=9))

    assert [hold.key for hold in oversight.stuck_holds(now=NOON + timedelta(hours=2))] == ["old", "past"]


def test_a_transaction_is_found_by_whatever_names_it(stella):
    charged = cast.charge(stella.account, 5, key="order-77")
    entry = Entry.objects.filter(transaction=charged.transaction_id).first()
    wanted = Transaction.objects.get(pk=charged.transaction_id)

    for asked in (str(wanted.pk), str(entry.pk), "order-7", str(stella.account.pk), stella.account.slug):
        assert wanted in page(stella, "ledger", q=asked).context["page"].results, asked
    assert page(stella, "ledger", q="nothing").context["page"].results == []
    assert page(stella, "ledger", kind="grant").context["page"].results == [
        stella.account.transactions.get(kind="grant")
    ]


def test_an_entry_leads_to_the_payment_that_made_it(stella):
    payment = payment_cast.buy(stella.account, 10)

    shown = page(stella, "transaction", payment.grant.transaction_id).content.decode()

    assert reverse("billing:payment", args=[stella.account, payment.pk]) in shown


@pytest.mark.parametrize("query", [{}, {"month": "2026-03"}])
def test_the_months_money_on_one_page(stella, query):
    cast.use(stella.account, "mcp_call", 30, now=timezone.now())
    cast.hold(stella.account, 1, key="stuck-hold")

    answer = page(stella, "money", **query)

    assert answer.status_code == 200
    assert "stuck-hold" in answer.content.decode()


@pytest.mark.parametrize("name", ["money", "ledger", "price-books"])
def test_these_pages_are_staffs(stella, client, name):
    client.force_login(stella.account.memberships.get().user)
    client.account = stella.account

    assert page(client, name).status_code == 403
