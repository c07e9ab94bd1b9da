"""Many at once, on real connections: nothing is spent twice, and nobody waits for ever."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection

from billing import invoicing, ledger, metering, periods
from billing.models import Invoice, UsageRecord
from tests import ledger_cast as cast
from tests.ledger_cast import NOON, UCR

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(acts):
    """Run every act in a thread of its own, all starting together; what each returned or raised, by kind."""
    start = threading.Barrier(len(acts))
    outcomes: list[object] = [None] * len(acts)

    def run(place, act):
        try:
            start.wait()
            outcomes[place] = act()
        except Exception as refused:  # noqa: BLE001 - the outcome is what the test asks about
            outcomes[place] = refused
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=each) for each in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    return outcomes


def kinds(outcomes):
    return Counter(type(outcome).__name__ for outcome in outcomes)


def test_many_spenders_never_overdraw_one_wallet():
    account = cast.make_account(100)

    outcomes = at_once([lambda n=n: cast.charge(account, 30, key=f"k{n}") for n in range(12)])

    assert kinds(outcomes) == {"Receipt": 3, "InsufficientCredits": 9}
    assert cast.available(account) == 10
    cast.assert_books_are_right()


def test_one_key_charges_once_however_many_send_it():
    account = cast.make_account(100)

    outcomes = at_once([lambda: cast.charge(account, 30, key="once") for _ in range(10)])

    assert len({receipt.transaction_id for receipt in outcomes}) == 1
    assert sum(not receipt.replayed for receipt in outcomes) == 1
    assert cast.available(account) == 70


def test_one_event_is_metered_once_however_many_send_it():
    account = cast.make_account(100)
    event = {"meter": "mcp_call", "quantity": Decimal(7), "occurred_at": NOON, "now": NOON, "key": "e", "source": "s"}

    outcomes = at_once([lambda: metering.record_usage(account_id=account.pk, **event) for _ in range(10)])

    assert kinds(outcomes) == {"UsageRecord": 10}
    assert UsageRecord.objects.filter(account=account).count() == 1
    assert cast.available(account) == 93


def test_metering_at_once_rates_the_total_exactly():
    account = cast.make_account(100)

    at_once([lambda n=n: cast.use(account, "agent_second", 1, key=f"e{n}") for n in range(9)])

    assert ledger.balance(account_id=account.pk, now=NOON).posted_ucr == 100 * UCR - 200_000
    cast.assert_books_are_right()


def test_a_hold_is_captured_or_released_and_never_both():
    account = cast.make_account(100)
    held = cast.hold(account, 40)

    def capture():
        return ledger.capture(hold_key=held.key, amount_ucr=40 * UCR, key="c", source="t", now=NOON)

    outcomes = at_once([capture, lambda: ledger.release(key=held.key, now=NOON)] * 4)

    assert set(kinds(outcomes)) in ({"Receipt", "HoldEnded"}, {"Hold", "HoldEnded"})
    assert cast.available(account) in (60, 100)
    cast.assert_books_are_right()


def test_opposite_transfers_do_not_wait_for_each_other():
    one, two = cast.make_account(100), cast.make_account(100)

    def move(sender, receiver, key):
        return ledger.transfer(from_account_id=sender.pk, to_account_id=receiver.pk, amount_ucr=UCR, key=key, now=NOON)

    outcomes = at_once([lambda n=n: move(*((one, two) if n % 2 else (two, one)), f"t{n}") for n in range(10)])

    assert kinds(outcomes) == {"Transaction": 10}
    assert (cast.available(one), cast.available(two)) == (100, 100)
    cast.assert_books_are_right()


def test_a_grant_key_grants_once_however_many_send_it():
    account = cast.make_account(0)

    outcomes = at_once([lambda: cast.give(account, 10, key="k") for _ in range(8)])

    assert len({grant.pk for grant in outcomes}) == 1
    assert cast.available(account) == 10


def test_sweeps_at_once_expire_everything_once():
    account = cast.make_account(0)
    later = NOON + timedelta(hours=2)
    cast.give(account, 10, expires_at=NOON + timedelta(hours=1))
    cast.hold(account, 5, expires_at=NOON + timedelta(hours=1))

    at_once([lambda: ledger.expire_holds(now=later), lambda: ledger.expire_grants(now=later)] * 4)
    ledger.expire_grants(now=later)

    assert ledger.balance(account_id=account.pk, now=later).posted_ucr == 0
    cast.assert_books_are_right()


def test_numbers_stay_gapless_when_many_invoices_become_final_at_once():
    march = periods.Period(NOON - timedelta(days=5), NOON + timedelta(days=5))
    drafts = [invoicing.generate(account=cast.make_account(10), period=march, now=NOON)[0] for _ in range(8)]

    acts = [lambda pk=draft.pk: invoicing.finalize(invoice_id=pk, now=march.end) for draft in drafts]
    outcomes = at_once(acts + acts[:3])

    assert kinds(outcomes) == {"Invoice": 8, "IllegalMove": 3}
    assert sorted(Invoice.objects.values_list("sequence", flat=True)) == list(range(1, 9))
    cast.assert_books_are_right()


def test_a_period_is_drafted_once_however_many_ask():
    account = cast.make_account(10)
    march = periods.Period(NOON - timedelta(days=5), NOON + timedelta(days=5))

    outcomes = at_once([lambda: invoicing.generate(account=account, period=march, now=NOON)[0] for _ in range(8)])

    assert len({draft.pk for draft in outcomes}) == 1
    assert Invoice.objects.count() == 1
