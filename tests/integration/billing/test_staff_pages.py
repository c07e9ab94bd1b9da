"""What staff do to an account: its terms, and taking back what should not have been."""

from __future__ import annotations

import pytest

from billing import ledger
from billing.models import Account, Transaction
from tests import factories, payment_cast
from tests import ledger_cast as cast
from tests.ledger_cast import UCR
from tests.page_cast import act, page, text

pytestmark = pytest.mark.django_db
KEY = "0198c0de-0000-7000-8000-000000000001"


def given(stella, **changes):
    """The form as it stands, with these changes."""
    return {name: value for name, value in page(stella, "terms").context["form"].initial.items() if value} | changes


def test_staff_set_the_terms_and_the_customer_sees_them(stella):
    act(stella, "terms", **given(stella, status="suspended", overdraft="12.5", tax_percent="19"))

    account = Account.objects.get(pk=stella.account.pk)
    assert (account.status, str(account.tax_rate)) == ("suspended", "0.1900")
    assert ledger.balance(account_id=account.pk, now=cast.NOON).overdraft_ucr == 12_500_000
    stella.force_login(account.memberships.get().user)
    shown = text(page(stella, "account")).replace("\xa0", " ")
    assert all(each in shown for each in ("Suspended", "19 %", "12.50 cr"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tax_percent": "101"}, "less than or equal to 100"),
        ({"tax_percent": "19.123"}, "no more than 2 decimal places"),
        ({"overdraft": "-1"}, "greater than or equal to 0"),
        ({"overdraft": "NaN"}, "Enter a number"),
        ({"overdraft": "0.0000001"}, "no more than 6 decimal places"),
        ({"status": "frozen"}, "Select a valid choice"),
        ({"reverse_charge": "on"}, "Reverse charge needs the customer&#x27;s tax id"),
        ({"version": "99"}, "changed meanwhile"),
    ],
)
def test_terms_that_cannot_be_are_said_and_change_nothing(stella, changes, words):
    answer = act(
        stella, "terms", **given(stella, status="suspended", **changes) if "status" not in changes else changes
    )

    assert answer.status_code == 422
    assert words in text(answer)
    assert Account.objects.get(pk=stella.account.pk).status == "active"


def test_an_overdraft_cannot_be_taken_from_who_has_drawn_on_it(stella):
    ledger.set_overdraft(account_id=stella.account.pk, overdraft_ucr=100 * UCR)
    cast.charge(stella.account, 1050)

    assert "already drawn" in text(act(stella, "terms", **given(stella, overdraft="0")))


def test_a_closed_account_stays_closed(stella):
    act(stella, "terms", **given(stella, status="closed"))

    assert "A closed account stays closed" in text(act(stella, "terms", **given(stella, status="active")))


def test_a_charge_is_taken_back_once_and_says_who_and_why(stella):
    charge = cast.charge(stella.account, 30).transaction_id
    assert "Take it back" in text(page(stella, "transaction", charge))

    for _ in range(2):
        act(stella, "transaction-reverse", charge, reason="Our mistake", key=KEY)

    undone = Transaction.objects.get(reverses=charge)
    assert (undone.description, undone.actor[:5]) == ("Our mistake", "user:")
    assert cast.available(stella.account) == 1000
    assert "Take it back" not in text(page(stella, "transaction", charge))


def test_what_was_given_is_taken_back_while_it_is_unspent(stella):
    given_ = cast.give(stella.account, 5, source="staff").transaction_id
    act(stella, "transaction-reverse", given_, reason="Too much", key=KEY)
    assert cast.available(stella.account) == 1000

    spent = Transaction.objects.get(account=stella.account, kind="grant", source="accounts").pk
    cast.charge(stella.account, 1)
    answer = act(stella, "transaction-reverse", spent, reason="All of it", key=KEY.replace("1", "2"))
    assert (answer.status_code, cast.available(stella.account)) == (409, 999)


def test_what_belongs_to_a_payment_is_refunded_and_not_taken_back(stella):
    payment_cast.buy(stella.account, 10)
    bought = Transaction.objects.get(account=stella.account, source="payments").pk

    assert "Take it back" not in text(page(stella, "transaction", bought))
    assert act(stella, "transaction-reverse", bought, reason="x", key=KEY).status_code == 409
    assert not Transaction.objects.filter(reverses=bought).exists()


def test_taking_back_needs_a_reason_and_a_transaction_of_the_account(stella):
    charge = cast.charge(stella.account, 30).transaction_id
    other = cast.charge(cast.make_account(100), 30).transaction_id

    assert "Say why" in text(act(stella, "transaction-reverse", charge, reason=" ", key=KEY))
    assert act(stella, "transaction-reverse", other, reason="x", key=KEY).status_code == 404
    assert not Transaction.objects.filter(kind="reversal").exists()


def test_customers_set_no_terms_and_take_nothing_back(alice):
    charge = cast.charge(alice.account, 30).transaction_id

    assert "Take it back" not in text(page(alice, "transaction", charge))
    assert page(alice, "terms").status_code == 403
    assert act(alice, "transaction-reverse", charge, reason="x", key=KEY).status_code == 403
    alice.force_login(factories.make_user("Charlie"))
    assert page(alice, "terms").status_code == 404


def test_an_owner_sets_the_details_and_when_invoices_come(alice):
    said = {"name": "Acme", "tax_id": "DE1", "billing_period": "weekly", "time_zone": "Europe/Berlin"}

    act(alice, "account", **said)

    account = Account.objects.get(pk=alice.account.pk)
    assert {name: getattr(account, name) for name in said} == said
    Account.objects.filter(pk=account.pk).update(reverse_charge=True)
    refused = act(alice, "account", **said | {"tax_id": ""})
    assert (refused.status_code, "needs the customer&#x27;s tax id" in text(refused)) == (422, True)


def test_the_address_of_a_form_opened_by_itself_says_so_and_leads_back(stella):
    charge = cast.charge(stella.account, 30).transaction_id

    answer = page(stella, "transaction-reverse", charge)

    assert (answer.status_code, answer["Allow"]) == (405, "POST")
    assert "Only a form is sent to this address." in text(answer)
