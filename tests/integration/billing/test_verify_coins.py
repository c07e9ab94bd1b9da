"""Coins that were tampered with, past the guards, are named; and the guards refuse it."""

import pytest
from django.db import IntegrityError, connection, transaction

from billing import coins, verify, x402_top_ups
from billing.chains import simulated
from billing.gateways import registry
from billing.models import CoinQuote
from tests import ledger_cast as cast
from tests import x402_cast
from tests.payment_cast import buy, now

pytestmark = pytest.mark.django_db
DEPTH = 12
PRICE = 1_000_000

BREAKS = {
    "coins_count_at_most_what_was_asked_for": "update billing_cointransfer set surplus_units = 0",
    "coins_on_their_way_count_for_nothing": "update billing_cointransfer set state = 'seen' where surplus_units > 0",
    "coin_payments_succeeded_by_their_transfers": "update billing_cointransfer set state = 'orphaned'",
    "credited_coins_granted_what_they_buy": "update billing_cointransfer set surplus_units = surplus_units - 1 where surplus_units > 0",
    "credits_for_coins_have_their_transfer": (
        "update billing_cointransfer set resolution = 'dismissed', grant_id = null where resolution = 'credited'"
    ),
    "x402_payments_succeeded_by_what_was_signed": "update billing_x402authorization set amount = amount - 1",
    "rows_point_to_what_is_there": "update billing_entry set transaction_id = gen_random_uuid() where line is null",
}
ASTRAY = [
    "update billing_entry set ledger_account_id = gen_random_uuid() where line is null",
    "update billing_transaction set account_id = gen_random_uuid() where kind = 'charge'",
    "update billing_transaction set kind = 'reversal', reverses_id = gen_random_uuid() where kind = 'charge'",
    "update billing_usagerecord set price_id = gen_random_uuid()",
]


@pytest.fixture
def account(settings):
    """One paid with coins and more than was asked for, which staff credited; and one with what it signed."""
    settings.SIMULATED_CHAIN, settings.USDC_RATE, settings.USDC_CONFIRMATIONS = True, "1", DEPTH
    account = cast.make_account(0)
    simulated.mine(now=now(), blocks=20)
    payment = buy(account, 100, "usdc")
    quote = CoinQuote.objects.get(reference=str(payment.pk))
    simulated.send(recipient=quote.address, units=PRICE * 3 // 2, now=now())
    simulated.mine(now=now(), blocks=DEPTH)
    coins.sweep(gateway=registry.usdc(), now=now())
    coins.credit(transfer=coins.queue().get(), actor="user:staff", now=now())
    offer = registry.x402().offers(amount=100, currency="EUR")[0].as_json()
    x402_top_ups.top_up(
        account=account, credits_ucr=100 * cast.UCR, key="k", url="https://ntd.example/api/v1/topups", now=now(),
        signature=x402_top_ups.wire.encode(x402_cast.pay(offer, now=now())),
    )  # fmt: skip
    cast.assert_books_are_right()
    return account


@pytest.mark.parametrize(
    ("name", "act"), [*BREAKS.items(), *[("rows_point_to_what_is_there", each) for each in ASTRAY]]
)
def test_what_is_broken_is_named(account, name, act):
    cast.use(account, "mcp_call", 1)
    with connection.cursor() as cursor:
        cursor.execute("set session_replication_role = replica")  # past the triggers
        cursor.execute(act)
        cursor.execute("set session_replication_role = origin")

    assert name in {check.name for check in verify.checks() if not check.ok}


# What the guards say; a CHECK says something else.
GUARDED = r"append-only|cannot (change|go)|stays so|as the chain said|is about what"
REFUSED = [
    "delete from billing_cointransfer",
    "update billing_cointransfer set units = units + 1",
    "update billing_cointransfer set sender = 'another'",
    "update billing_cointransfer set state = 'seen'",
    "update billing_cointransfer set surplus_units = surplus_units - 1",
    "update billing_cointransfer set resolution = 'dismissed', grant_id = null",
    "delete from billing_coinquote",
    "update billing_coinquote set units = 1",
    "update billing_coinquote set address = 'another'",
    "delete from billing_x402authorization",
    "update billing_x402authorization set payer = 'another'",
    "update billing_x402authorization set amount = 1",
    "update billing_x402authorization set state = 'refused', tx_hash = null",
    "update billing_x402authorization set tx_hash = 'another'",
]


@pytest.mark.parametrize("act", REFUSED)
def test_the_database_refuses_it(account, act):
    with pytest.raises(IntegrityError, match=GUARDED), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(act)


def test_where_a_transfer_lies_and_its_loss_are_kept(account):
    with connection.cursor() as cursor:
        cursor.execute("update billing_cointransfer set block = block + 1, state = 'lost', why = 'taken back'")

    cast.assert_books_are_right()
