"""Unpaid invoices: reminded of, once a step; then the account stops, and goes on when it has paid."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from billing import details, dunning, invoicing, ledger, payments, periods
from billing.models import Account, DunningStep, Invoice
from tests import ledger_cast, outgoing_cast
from tests.ledger_cast import NOON, UCR

pytestmark = pytest.mark.django_db
MARCH = periods.Period(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))


def owed(number: int = 1) -> Invoice:
    """An open invoice of an account that spends before it pays."""
    account = ledger_cast.make_account(0)
    ledger.set_overdraft(account_id=account.pk, overdraft_ucr=10_000 * UCR)
    ledger_cast.use(account, "mcp_call", 100 * number)
    draft, _ = invoicing.generate(account=account, period=MARCH, now=MARCH.end)
    return invoicing.finalize(invoice_id=draft.pk, now=MARCH.end)


@pytest.fixture
def invoice() -> Invoice:
    return owed()


def after(invoice: Invoice, days: float) -> datetime:
    assert invoice.due_at is not None
    return invoice.due_at + timedelta(days=days)


def steps(invoice: Invoice) -> list[int]:
    return list(invoice.dunning_steps.order_by("days").values_list("days", flat=True))


def status(invoice: Invoice) -> tuple[str, bool]:
    found = Account.objects.get(pk=invoice.account_id)
    return found.status, found.suspended_for_debt


def test_each_step_is_made_on_its_day_by_mail_and_webhook(
    invoice: Invoice, django_capture_on_commit_callbacks: Any
) -> None:
    outgoing_cast.make_endpoint(invoice.account)
    for days, made in [(-0.01, 0), (0, 1), (0.5, 0), (3, 1), (7, 1), (13.9, 0), (14, 1), (15, 0)]:
        with django_capture_on_commit_callbacks(execute=True):
            assert dunning.sweep(now=after(invoice, days)) == made

    assert steps(invoice) == [0, 3, 7, 14]
    assert status(invoice) == ("suspended", True)
    assert outgoing_cast.types(invoice.account) == ["invoice.overdue"] * 3 + ["account.suspended", "invoice.overdue"]
    assert [sent.subject.partition(":")[0] for sent in mail.outbox] == [
        *[f"Invoice {invoice.number} is not paid"] * 3,
        "Account suspended",
    ]


def test_a_suspended_account_starts_nothing_new(invoice: Invoice) -> None:
    dunning.sweep(now=after(invoice, 14))

    with pytest.raises(ledger.AccountNotActive):
        ledger_cast.charge(invoice.account, 1)


@pytest.mark.parametrize("way", ["paid", "void"])
def test_it_goes_on_when_nothing_is_owed_any_more(
    invoice: Invoice, way: str, django_capture_on_commit_callbacks: Any
) -> None:
    outgoing_cast.make_endpoint(invoice.account, events=["account.resumed"])
    dunning.sweep(now=after(invoice, 14))
    end = invoicing.mark_paid if way == "paid" else invoicing.void
    end(invoice_id=invoice.pk, reason="settled", now=after(invoice, 15))
    with django_capture_on_commit_callbacks(execute=True):
        dunning.sweep(now=after(invoice, 15))
        dunning.sweep(now=after(invoice, 15))

    assert status(invoice) == ("active", False)
    assert outgoing_cast.types(invoice.account) == ["account.resumed"]
    assert len(mail.outbox) == 1


def test_steps_that_nothing_ran_for_are_made_together_with_one_mail(
    invoice: Invoice, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        assert dunning.sweep(now=after(invoice, 30)) == 4

    assert (steps(invoice), len(mail.outbox)) == ([0, 3, 7, 14], 1)


def test_an_invoice_that_is_paid_in_time_or_has_nothing_due_is_left_alone() -> None:
    paid, nothing = owed(), owed()
    invoicing.mark_paid(invoice_id=paid.pk, reason="", now=NOON)
    Invoice.objects.filter(pk=nothing.pk)

    assert dunning.sweep(now=after(paid, 0)) == 1
    assert (steps(paid), steps(nothing)) == ([], [0])


def test_while_it_is_being_paid_nobody_is_reminded(invoice: Invoice) -> None:
    said = {"invoice": invoice, "key": "pay", "now": NOON}
    payment = payments.pay_invoice(method="sim_action_required", **said)

    assert dunning.sweep(now=after(invoice, 14)) == 0
    payments.decline(payment=payment, now=NOON)
    assert dunning.sweep(now=after(invoice, 14)) == 4


def test_another_unpaid_invoice_keeps_the_account_suspended(invoice: Invoice) -> None:
    account = invoice.account
    april = periods.Period(MARCH.end, datetime(2026, 5, 1, tzinfo=UTC))
    ledger_cast.use(account, "mcp_call", 10, now=april.start + timedelta(days=1))
    draft, _ = invoicing.generate(account=account, period=april, now=april.end)
    second = invoicing.finalize(invoice_id=draft.pk, now=april.end)
    dunning.sweep(now=after(second, 14))

    invoicing.mark_paid(invoice_id=invoice.pk, reason="", now=after(second, 15))
    dunning.sweep(now=after(second, 15))
    assert status(invoice) == ("suspended", True)
    invoicing.mark_paid(invoice_id=second.pk, reason="", now=after(second, 15))
    dunning.sweep(now=after(second, 15))

    assert status(invoice) == ("active", False)


def test_staff_s_word_is_not_touched(invoice: Invoice) -> None:
    """An account that staff suspended meanwhile stays so when it has paid."""
    dunning.sweep(now=after(invoice, 14))
    for word in ("active", "suspended"):
        details.change(account=invoice.account, changes={"status": word}, is_staff=True, now=NOON)
    invoicing.mark_paid(invoice_id=invoice.pk, reason="", now=after(invoice, 15))

    dunning.sweep(now=after(invoice, 15))

    assert status(invoice) == ("suspended", False)


def test_a_crash_in_a_step_leaves_nothing_of_it(invoice: Invoice, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(dunning, "_write", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            dunning.sweep(now=after(invoice, 14))
    assert (steps(invoice), status(invoice)) == ([], ("active", False))

    dunning.sweep(now=after(invoice, 14))

    assert (steps(invoice), status(invoice)) == ([0, 3, 7, 14], ("suspended", True))


@pytest.mark.django_db(transaction=True)
def test_two_sweeps_at_once_make_each_step_once(invoice: Invoice) -> None:
    made: list[int] = []

    def sweep() -> None:
        try:
            made.append(dunning.sweep(now=after(invoice, 7)))
        finally:
            connection.close()

    threads = [threading.Thread(target=sweep) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (sum(made), DunningStep.objects.count()) == (3, 3)


def test_the_plan_of_reminders_is_in_the_api_and_on_the_page(invoice: Invoice, client: Any) -> None:
    dunning.sweep(now=after(invoice, 4))
    client.force_login(invoice.account.memberships.get().user)

    said = client.get(f"/api/v1/invoices/{invoice.pk}").json()["reminders"]

    assert [(each["days"], each["sent_at"] is not None, each["suspends"]) for each in said] == [
        (0, True, False),
        (3, True, False),
        (7, False, False),
        (14, False, True),
    ]
    assert said[2]["at"] == after(invoice, 7).isoformat().replace("+00:00", "Z")
    page = client.get(reverse("billing:invoice", args=[invoice.account, invoice.pk])).content.decode()
    assert page.count("To come") == 2
    assert "the account is suspended with it" in page
    invoicing.mark_paid(invoice_id=invoice.pk, reason="cash", now=after(invoice, 5))
    assert len(client.get(f"/api/v1/invoices/{invoice.pk}").json()["reminders"]) == 2


def test_terms_are_changed_in_the_order_of_locks_that_reminders_have(invoice: Invoice) -> None:
    """The wallet first; the other way round the database would break a deadlock of both."""
    with CaptureQueriesContext(connection) as asked:
        details.change(account=invoice.account, changes={"overdraft_ucr": 500 * UCR}, is_staff=True, now=NOON)

    locked = [each["sql"] for each in asked if "FOR NO KEY UPDATE" in each["sql"]]
    assert ["billing_ledgeraccount" in sql.partition("FROM")[2][:30] for sql in locked] == [True, False]
