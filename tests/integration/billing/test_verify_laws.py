"""L1 to L11, each broken for itself past the guards: the verifier names that one, and only what follows from it."""

import pytest
from django.db import connection

from billing import verify
from tests.integration.billing.test_verify import BREAKS, broken, busy  # noqa: F401 - a fixture
from tests.integration.billing.test_verify_coins import BREAKS as COIN_BREAKS

pytestmark = pytest.mark.django_db

OTHER_INVOICE = """
update billing_invoiceseries set last_number = last_number + 1
 where id in (select series_id from billing_invoice);
insert into billing_invoice
select (jsonb_populate_record(i, jsonb_build_object(
    'id', gen_random_uuid(), 'number', i.number || 'x', 'sequence', s.last_number,
    'period_start', i.period_end - interval '1 hour',
    'subtotal', 0, 'tax', 0, 'total', 0, 'credits_applied', 0, 'amount_due', 0, 'credited', 0, 'credited_due', 0,
    'credited_due_ucr', 0, 'due_ucr', 0))).*
  from billing_invoice i join billing_invoiceseries s on s.id = i.series_id"""
# Law -> the check that holds it, what breaks it, and which other checks cannot but break with it.
LAWS = [
    ("L1", "transactions_balance", """
        update billing_entry e set amount_ucr = e.amount_ucr + case n when 1 then 1 else -1 end
          from (select id, row_number() over (order by id) n from billing_entry where line is null limit 2) two
         where two.id = e.id""", ()),
    ("L1", "transactions_have_two_legs", """
        insert into billing_transaction (id, account_id, kind, source, key, request_hash, description, actor, request_id, created_at)
        select gen_random_uuid(), id, 'charge', 's', 'no legs', '', '', '', '', now() from billing_account""", ()),
    ("L2", "ledger_sums_to_zero", BREAKS["ledger_sums_to_zero"], ("transactions_balance",)),
    ("L3", "wallet_posted_is_the_sum_of_its_entries",
     "update billing_ledgeraccount set posted_ucr = posted_ucr - 1, debt_ucr = debt_ucr + 1 where kind = 'wallet'", ()),
    ("L3", "wallet_held_is_the_sum_of_active_holds", BREAKS["wallet_held_is_the_sum_of_active_holds"], ()),
    ("L3", "statements_run_without_gaps", BREAKS["statements_run_without_gaps"], ()),
    ("L4", "wallets_are_above_their_floor", BREAKS["wallets_are_above_their_floor"], ()),
    ("L5", "grants_and_debt_make_up_the_wallet", BREAKS["grants_and_debt_make_up_the_wallet"], ()),
    ("L6", "grants_are_used_up_to_their_amount", "update billing_grantconsumption set amount_ucr = amount_ucr + 1", ()),
    ("L6", "holds_are_captured_up_to_their_amount",
     "update billing_hold set captured_ucr = captured_ucr + 1 where state = 'captured'", ()),
    ("L6", "refunds_add_up_to_what_was_refunded", BREAKS["refunds_add_up_to_what_was_refunded"], ()),
    ("L7", "written_rows_are_guarded", "alter table billing_entry disable trigger append_only", ()),
    ("L7", "money_is_guarded", "drop trigger never_deleted on billing_grant", ()),
    ("L8", "keys_are_used_once", """
        alter table billing_transaction drop constraint one_transaction_per_key;
        update billing_transaction set source = 's', key = 'k' where kind in ('charge', 'capture')""", ()),
    ("L9", "usage_is_charged_once",
     "update billing_usagerecord set transaction_id = (select transaction_id from billing_hold where state = 'captured')", ()),
    ("L9", "rated_totals_are_the_price_of_the_total", BREAKS["rated_totals_are_the_price_of_the_total"], ()),
    ("L10", "invoices_add_up", "update billing_invoiceline set amount = amount + 1", ()),
    ("L10", "invoice_numbers_have_no_gaps", "update billing_invoiceseries set last_number = last_number + 1", ()),
    ("L10", "final_periods_do_not_overlap", OTHER_INVOICE, ()),
    ("L11", "final_invoices_hold_the_usage_of_their_period",
     "update billing_usagerecord set billed_at = billed_at + interval '3 days'", ()),
]  # fmt: skip


@pytest.mark.parametrize(("law", "name", "act", "also"), LAWS, ids=[f"{law}-{name}" for law, name, _, _ in LAWS])
def test_a_broken_law_is_named_and_nothing_else(busy, law, name, act, also):  # noqa: F811 - the fixture
    with connection.cursor() as cursor:
        cursor.execute("set constraints all immediate")
        cursor.execute("set session_replication_role = replica")  # past the triggers
        cursor.execute(act)
        cursor.execute("set session_replication_role = origin")

    assert broken() == {name, *also}


def test_every_law_and_every_check_has_been_broken():
    checks = {*verify.STATEMENTS, "rated_totals_are_the_price_of_the_total"}

    assert {law for law, *_ in LAWS} == {f"L{number}" for number in range(1, 12)}
    assert checks - {name for _, name, *_ in LAWS} - BREAKS.keys() - COIN_BREAKS.keys() == set()
