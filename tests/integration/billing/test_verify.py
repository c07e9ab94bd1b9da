"""Each invariant is broken on purpose, past the guards, and the verifier names it."""

import json
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connection

from billing import budgets, credit_notes, invoicing, ledger, payments, periods, verify
from tests import bank_cast, payment_cast
from tests import ledger_cast as cast

pytestmark = pytest.mark.django_db

BREAKS = {
    "transactions_balance": "update billing_entry set amount_ucr = amount_ucr + 1 where line is null",
    "ledger_sums_to_zero": "update billing_entry set amount_ucr = amount_ucr + 1 where line is null",
    "transactions_have_two_legs": "delete from billing_entry where line is null",
    "wallet_posted_is_the_sum_of_its_entries": "update billing_ledgeraccount set posted_ucr = posted_ucr + 1 where kind = 'wallet'",
    "wallet_held_is_the_sum_of_active_holds": "update billing_ledgeraccount set held_ucr = held_ucr + 1 where kind = 'wallet'",
    "statements_run_without_gaps": "update billing_entry set line = line + 50 where line = 2",
    "grants_and_debt_make_up_the_wallet": "update billing_ledgeraccount set debt_ucr = 1 where kind = 'wallet'",
    "grants_are_used_up_to_their_amount": "update billing_grant set remaining_ucr = remaining_ucr - 1 where remaining_ucr > 0",
    "holds_are_captured_up_to_their_amount": "update billing_entry set amount_ucr = -1 where transaction_id in (select transaction_id from billing_hold)",
    "usage_is_charged_once": "update billing_usagerecord set cost_ucr = 1",
    "wallets_are_above_their_floor": "update billing_ledgeraccount set arrears_ucr = 1 where kind = 'wallet'",
    "wallets_and_grants_are_sound": "update billing_ledgeraccount set floor_ucr = 1 where kind = 'wallet'",
    "succeeded_payments_granted_what_they_bought": "update billing_payment set credits_ucr = credits_ucr + 1",
    "credits_bought_have_their_payment": "update billing_payment set state = 'failed', captured = 0, refunded = 0, disputed = 0, grant_id = null",
    "credits_bought_sum_to_the_payments": "update billing_payment set credits_ucr = credits_ucr + 1",
    "refunds_add_up_to_what_was_refunded": "update billing_payment set refunded = refunded - 1 where refunded > 0",
    "refunds_took_back_what_they_say": "update billing_refund set credits_ucr = credits_ucr + 1",
    "final_invoices_hold_what_was_captured": "update billing_invoiceline set cost_ucr = cost_ucr + 1 where meter = 'other'",
    "credit_notes_take_off_what_they_say": "update billing_invoice set credited = credited - 1",
    "no_line_is_credited_beyond_its_amount": "update billing_creditnoteline set amount = amount + 100",
    "credit_notes_gave_their_credits": "update billing_creditnote set granted_ucr = granted_ucr + 1",
    "open_payments_are_asked_about": "update billing_payment set ask_at = now()",
    "disputes_add_up_to_what_is_disputed": "update billing_payment set disputed = 0",
    "disputes_took_what_they_say": "update billing_dispute set taken_ucr = taken_ucr - 1",
    "kept_cards_are_their_accounts": """
        insert into billing_stripecustomer (account_id, customer_id, created_at) select id, 'cus_1', now() from billing_account;
        insert into billing_paymentmethod (id, account_id, gateway, token, label, is_default, created_at)
        values (gen_random_uuid(), gen_random_uuid(), 'stripe', 'cus_1:pm_1', 'Card', false, now())""",
    "budgets_hold_what_their_holds_reserve": "update billing_budgetcounter set held_ucr = held_ucr + 1",
    "wallets_know_whether_budgets_watch_them": "update billing_ledgeraccount set has_budgets = false",
    "usage_is_given_back_once": """
        insert into billing_transaction
            (id, account_id, kind, source, key, request_hash, description, actor, request_id, created_at, reverses_id)
        select gen_random_uuid(), account_id, 'reversal', 's', 'r', '', '', '', '', '2999-01-01', transaction_id
          from billing_usagerecord""",
    "undone_bank_matches_took_what_was_granted": "update billing_payment set reopened = 1",
    "bank_lines_and_transfers_are_what_their_matches_say": "update billing_bankline set matched = matched + 1",
    "budgets_counted_what_they_may_give_back": "update billing_budgetcounter set spent_ucr = 0",
    "rated_totals_are_the_price_of_the_total": "update billing_rating set rated_ucr = rated_ucr + 1",
}


@pytest.fixture
def busy():
    account = cast.make_account(100)
    said = {"scope": "account", "period": "day", "action": "notify", "now": cast.NOON}
    budgets.create(account=account, limit_ucr=1000, **said)
    cast.use(account, "mcp_call", 3)
    held = cast.hold(account, 10)
    ledger.capture(hold_key=held.key, amount_ucr=5, key="c", source="t", now=cast.NOON)
    payment = payment_cast.buy(account, 10)
    payments.refund(payment=payment, amount=5, key="r", now=payment_cast.now())
    march = periods.Period(cast.NOON - timedelta(days=1), cast.NOON + timedelta(days=1))
    draft, _ = invoicing.generate(account=account, period=march, now=march.end)
    invoicing.finalize(invoice_id=draft.pk, now=march.end)
    credit_notes.issue(invoice_id=draft.pk, reason="r", key="k", now=march.end, amount=2)
    payments.raise_dispute(payment=payment_cast.buy(account, 10), now=payment_cast.now())
    bank_cast.make_line()
    cast.assert_books_are_right()
    return account


def broken():
    return {check.name for check in verify.checks() if not check.ok}


def test_the_books_are_right(busy):
    assert broken() == set()


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_broken_is_named(busy, name):
    with connection.cursor() as cursor:
        cursor.execute("set session_replication_role = replica")  # past the triggers
        cursor.execute(BREAKS[name])
        cursor.execute("set session_replication_role = origin")

    assert name in broken()


@pytest.mark.parametrize(
    "act",
    [
        "update billing_ledgeraccount set debt_ucr = -1",
        "update billing_ledgeraccount set arrears_ucr = -1",
        "update billing_ledgeraccount set floor_ucr = null, posted_ucr = 0, held_ucr = 0",
        "update billing_ledgeraccount set account_id = null",
        "update billing_ledgeraccount set floor_ucr = 0 where kind = 'revenue'",
        "update billing_ledgeraccount set kind = 'wallet' where kind = 'revenue'",
        "update billing_grant set amount_ucr = 0, remaining_ucr = 0",
        "update billing_grant set priority = 101",
        "update billing_grant set priority = -1",
    ],
)
def test_a_row_that_is_not_sound_is_named(busy, act):
    with connection.cursor() as cursor:
        cursor.execute("set session_replication_role = replica")
        cursor.execute(act)
        cursor.execute("set session_replication_role = origin")

    assert "wallets_and_grants_are_sound" in broken()


def test_a_missing_guard_is_named(busy):
    with connection.cursor() as cursor:
        cursor.execute("set constraints all immediate")
        cursor.execute("alter table billing_entry disable trigger append_only")

    assert "written_rows_are_guarded" in broken()


def test_the_command_says_all_is_well(busy, capsys):
    call_command("verify_ledger", "--json")

    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    assert len(found["checks"]) == len(verify.STATEMENTS) + 1


def test_the_command_fails_and_names_what_is_broken(busy, capsys):
    with connection.cursor() as cursor:
        cursor.execute(BREAKS["rated_totals_are_the_price_of_the_total"])

    with pytest.raises(SystemExit):
        call_command("verify_ledger")

    assert "BROKEN rated_totals_are_the_price_of_the_total 1 broken: mcp_call of" in capsys.readouterr().out
