import contextlib
from datetime import timedelta

import pytest
from django.db import connection, transaction

from billing import ledger
from billing.models import Account, Entry, Grant, Hold, LedgerAccount, Transaction
from tests import ledger_cast as cast
from tests.ledger_cast import NOON, UCR

pytestmark = pytest.mark.django_db
LATER = NOON + timedelta(days=1)


@pytest.fixture(autouse=True)
def _books_are_right_after_every_test(db):
    yield
    cast.assert_books_are_right()


# --- charges


def test_a_charge_takes_credits_and_says_by_which_transaction():
    account = cast.make_account(100)

    receipt = cast.charge(account, 30, meter="mcp_call")

    assert cast.available(account) == 70
    legs = dict(
        Entry.objects.filter(transaction=receipt.transaction_id).values_list("ledger_account__code", "amount_ucr")
    )
    assert legs == {f"wallet:{account.pk}": -30 * UCR, "revenue:mcp_call": 30 * UCR}


def test_a_charge_beyond_the_balance_is_refused_in_the_words_of_the_contract():
    account = cast.make_account(100)
    cast.charge(account, 10)

    with pytest.raises(ledger.InsufficientCredits) as refused:
        ledger.charge(account_id=account.pk, amount_ucr=90_500_000, key="k", source="test", now=NOON)

    assert str(refused.value) == "Insufficient credits: need 90.5, have 90"
    assert refused.value.extras == {"needed": "90.500000", "available": "90.000000"}
    assert cast.available(account) == 90


def test_the_same_key_charges_once():
    account = cast.make_account(100)

    first = cast.charge(account, 30, key="once")
    again = cast.charge(account, 30, key="once")

    assert (again.transaction_id, again.replayed, first.replayed) == (first.transaction_id, True, False)
    assert cast.available(account) == 70


def test_a_key_used_for_another_amount_is_refused():
    account = cast.make_account(100)
    cast.charge(account, 30, key="once")

    with pytest.raises(ledger.KeyReused):
        cast.charge(account, 31, key="once")


def test_keys_are_each_accounts_own():
    first, second = cast.make_account(100), cast.make_account(100)

    cast.charge(first, 30, key="same")
    cast.charge(second, 30, key="same")

    assert (cast.available(first), cast.available(second)) == (70, 70)


def test_a_refused_charge_leaves_its_key_free():
    account = cast.make_account(10)
    with pytest.raises(ledger.InsufficientCredits):
        cast.charge(account, 30, key="k")
    cast.give(account, 100)

    cast.charge(account, 30, key="k")

    assert cast.available(account) == 80


@pytest.mark.parametrize("status", ["suspended", "closed"])
def test_an_account_that_is_not_active_cannot_spend(status):
    account = cast.make_account(100, status=status)

    with pytest.raises(ledger.AccountNotActive) as refused:
        cast.charge(account, 1)
    with pytest.raises(ledger.AccountNotActive):
        cast.hold(account, 1)

    assert refused.value.extras == {"state": status}
    assert cast.available(account) == 100


@pytest.mark.parametrize("amount_ucr", [0, -1, 10**15 + 1])
def test_amounts_out_of_range_are_refused(amount_ucr):
    account = cast.make_account(100)

    with pytest.raises(ledger.AmountOutOfRange):
        ledger.charge(account_id=account.pk, amount_ucr=amount_ucr, key="k", source="test", now=NOON)


def test_a_crash_after_a_charge_takes_it_back():
    account = cast.make_account(100)

    with contextlib.suppress(RuntimeError), transaction.atomic():
        cast.charge(account, 30)
        raise RuntimeError

    assert cast.available(account) == 100


# --- grants


def test_grants_burn_by_priority_then_expiry_then_age():
    account = cast.make_account(0)
    oldest = cast.give(account, 10, priority=50)
    sooner = cast.give(account, 10, priority=50, expires_at=LATER)
    soonest = cast.give(account, 10, priority=50, expires_at=NOON + timedelta(hours=1))
    first = cast.give(account, 10, priority=1)
    newest = cast.give(account, 10, priority=50, now=NOON + timedelta(seconds=1))

    left = []
    for _ in range(5):
        cast.charge(account, 10)
        left.append(
            next(g for g in (first, soonest, sooner, oldest, newest) if _is_left(g)) if _left(account) else None
        )

    assert left == [soonest, sooner, oldest, newest, None]


def _is_left(grant):
    grant.refresh_from_db()
    return grant.remaining_ucr > 0


def _left(account):
    return Grant.objects.filter(account=account, remaining_ucr__gt=0).exists()


def test_one_charge_can_burn_several_grants():
    account = cast.make_account(10)
    promo = cast.give(account, 10, priority=1)

    cast.charge(account, 15)

    promo.refresh_from_db()
    assert promo.remaining_ucr == 0
    assert cast.available(account) == 5


def test_the_same_key_grants_once():
    account = cast.make_account(0)

    first, again = cast.give(account, 10, key="k"), cast.give(account, 10, key="k")

    assert first == again
    assert cast.available(account) == 10


def test_a_grant_key_used_for_another_amount_is_refused():
    account = cast.make_account(0)
    cast.give(account, 10, key="k")

    with pytest.raises(ledger.KeyReused):
        cast.give(account, 11, key="k")


def test_expired_credits_cannot_be_spent_even_before_the_sweep():
    account = cast.make_account(10)
    cast.give(account, 50, expires_at=LATER)

    with pytest.raises(ledger.InsufficientCredits, match="need 20, have 10"):
        cast.charge(account, 20, now=LATER)

    assert cast.available(account, LATER) == 10


def test_the_sweep_books_expired_credits_as_breakage_once():
    account = cast.make_account(10)
    cast.give(account, 50, expires_at=LATER)

    assert [ledger.expire_grants(now=LATER) for _ in range(2)] == [1, 0]

    breakage = Entry.objects.filter(ledger_account__code="breakage", transaction__account=account)
    assert [entry.amount_ucr for entry in breakage] == [50 * UCR]
    assert cast.available(account) == 10


def test_what_is_held_does_not_expire_while_it_is_held():
    account = cast.make_account(0)
    cast.give(account, 50, expires_at=LATER)
    held = cast.hold(account, 30, expires_at=LATER + timedelta(hours=1))
    ledger.expire_grants(now=LATER)

    ledger.capture(hold_key=held.key, amount_ucr=20 * UCR, key="c", source="test", now=LATER)
    assert cast.available(account, LATER) == 0
    ledger.expire_grants(now=LATER)

    assert LedgerAccount.objects.get(account=account).posted_ucr == 0


# --- holds


def test_a_hold_sets_credits_aside_and_capture_takes_what_was_needed():
    account = cast.make_account(100)
    held = cast.hold(account, 40)
    assert cast.available(account) == 60

    ledger.capture(hold_key=held.key, amount_ucr=15 * UCR, key="c", source="test", now=NOON)

    held.refresh_from_db()
    assert (held.state, held.captured_ucr) == (Hold.State.CAPTURED, 15 * UCR)
    assert cast.available(account) == 85


def test_the_same_key_holds_once():
    account = cast.make_account(100)

    assert cast.hold(account, 40, key="h") == cast.hold(account, 40, key="h")

    assert cast.available(account) == 60


def test_a_hold_key_of_another_account_or_amount_is_refused():
    account, other = cast.make_account(100), cast.make_account(100)
    cast.hold(account, 40, key="h")

    for wrong in (lambda: cast.hold(other, 40, key="h"), lambda: cast.hold(account, 41, key="h")):
        with pytest.raises(ledger.KeyReused):
            wrong()


def test_a_hold_beyond_what_is_available_is_refused():
    account = cast.make_account(100)
    cast.hold(account, 60)

    with pytest.raises(ledger.InsufficientCredits, match="need 41, have 40"):
        cast.hold(account, 41)


def test_more_than_the_hold_cannot_be_captured():
    held = cast.hold(cast.make_account(100), 40)

    with pytest.raises(ledger.AmountOutOfRange):
        ledger.capture(hold_key=held.key, amount_ucr=40 * UCR + 1, key="c", source="test", now=NOON)


def test_the_same_capture_answers_its_receipt_and_another_is_refused():
    held = cast.hold(cast.make_account(100), 40)
    capture = {"hold_key": held.key, "amount_ucr": 10 * UCR, "source": "test", "now": NOON}

    first = ledger.capture(key="c", **capture)
    again = ledger.capture(key="c", **capture)

    assert (again.transaction_id, again.replayed) == (first.transaction_id, True)
    with pytest.raises(ledger.HoldEnded) as refused:
        ledger.capture(key="d", **capture)
    assert refused.value.extras == {"state": "captured"}


def test_a_released_hold_gives_everything_back_once():
    account = cast.make_account(100)
    held = cast.hold(account, 40)

    ledger.release(key=held.key, now=NOON)
    ledger.release(key=held.key, now=NOON)

    assert cast.available(account) == 100
    with pytest.raises(ledger.HoldEnded):
        ledger.capture(hold_key=held.key, amount_ucr=1, key="c", source="test", now=NOON)


def test_a_captured_hold_cannot_be_released():
    held = cast.hold(cast.make_account(100), 40)
    ledger.capture(hold_key=held.key, amount_ucr=1, key="c", source="test", now=NOON)

    with pytest.raises(ledger.HoldEnded):
        ledger.release(key=held.key, now=NOON)


def test_a_hold_past_its_time_is_expired_even_before_the_sweep():
    held = cast.hold(cast.make_account(100), 40, expires_at=LATER)

    with pytest.raises(ledger.HoldEnded) as refused:
        ledger.capture(hold_key=held.key, amount_ucr=1, key="c", source="test", now=LATER)

    assert refused.value.extras == {"state": "expired"}


def test_the_sweep_frees_expired_holds_once():
    account = cast.make_account(100)
    held = cast.hold(account, 40, expires_at=LATER)

    assert [ledger.expire_holds(now=now) for now in (NOON, LATER, LATER)] == [0, 1, 0]

    held.refresh_from_db()
    assert held.state == Hold.State.EXPIRED
    assert cast.available(account) == 100


def test_an_unknown_hold_is_not_found():
    with pytest.raises(ledger.UnknownHold):
        ledger.release(key="nothing", now=NOON)


def test_a_hold_made_while_active_can_be_captured_after_suspension():
    account = cast.make_account(100)
    held = cast.hold(account, 40)
    Account.objects.filter(pk=account.pk).update(status="suspended")

    ledger.capture(hold_key=held.key, amount_ucr=10 * UCR, key="c", source="test", now=NOON)

    assert cast.available(account) == 90


# --- overdraft


def test_an_overdraft_allows_spending_below_zero_and_no_further():
    account = cast.make_account(10)
    ledger.set_overdraft(account_id=account.pk, overdraft_ucr=50 * UCR)

    receipt = cast.charge(account, 40)

    assert receipt.overdraft_ucr == 30 * UCR
    assert cast.available(account) == 20
    with pytest.raises(ledger.InsufficientCredits, match="need 21, have 20"):
        cast.charge(account, 21)


def test_the_next_grant_repays_the_overdraft_first():
    account = cast.make_account(10)
    ledger.set_overdraft(account_id=account.pk, overdraft_ucr=50 * UCR)
    cast.charge(account, 40)

    grant = cast.give(account, 100)

    assert grant.remaining_ucr == 70 * UCR
    assert ledger.balance(account_id=account.pk, now=NOON).debt_ucr == 0


def test_an_overdraft_cannot_shrink_below_what_was_drawn():
    account = cast.make_account(0)
    ledger.set_overdraft(account_id=account.pk, overdraft_ucr=50 * UCR)
    cast.charge(account, 40)

    with pytest.raises(ledger.AmountOutOfRange):
        ledger.set_overdraft(account_id=account.pk, overdraft_ucr=39 * UCR)


# --- corrections


def test_a_reversed_charge_comes_back_as_a_refund():
    account = cast.make_account(100)
    receipt = cast.charge(account, 30)

    undone = ledger.reverse(transaction_id=receipt.transaction_id, key="r", reason="wrong meter", now=NOON)

    assert undone.reverses_id == receipt.transaction_id
    assert cast.available(account) == 100
    assert Grant.objects.get(account=account, category="refund").amount_ucr == 30 * UCR


def test_a_transaction_is_reversed_once():
    receipt = cast.charge(cast.make_account(100), 30)
    undo = {"transaction_id": receipt.transaction_id, "reason": "", "now": NOON}
    first = ledger.reverse(key="r", **undo)

    assert ledger.reverse(key="r", **undo) == first
    with pytest.raises(ledger.NotReversible):
        ledger.reverse(key="s", **undo)


def test_an_untouched_grant_can_be_reversed_and_a_used_one_cannot():
    account = cast.make_account(0)
    untouched = cast.give(account, 10)
    used = cast.give(account, 10, priority=1)
    cast.charge(account, 1)

    ledger.reverse(transaction_id=untouched.transaction_id, key="r", reason="", now=NOON)
    with pytest.raises(ledger.NotReversible):
        ledger.reverse(transaction_id=used.transaction_id, key="s", reason="", now=NOON)

    assert cast.available(account) == 9


def test_a_reversal_cannot_be_reversed():
    receipt = cast.charge(cast.make_account(100), 30)
    undone = ledger.reverse(transaction_id=receipt.transaction_id, key="r", reason="", now=NOON)

    with pytest.raises(ledger.NotReversible):
        ledger.reverse(transaction_id=undone.pk, key="s", reason="", now=NOON)


def test_reversing_an_overdrawn_charge_repays_the_overdraft():
    account = cast.make_account(10)
    ledger.set_overdraft(account_id=account.pk, overdraft_ucr=50 * UCR)
    receipt = cast.charge(account, 40)

    ledger.reverse(transaction_id=receipt.transaction_id, key="r", reason="", now=NOON)

    assert ledger.balance(account_id=account.pk, now=NOON).debt_ucr == 0
    assert cast.available(account) == 60


def move(sender, receiver, credits, **changes):
    wanted = {"key": "t", "now": NOON} | changes
    return ledger.transfer(from_account_id=sender.pk, to_account_id=receiver.pk, amount_ucr=credits * UCR, **wanted)


def test_a_transfer_moves_credits_once():
    sender, receiver = cast.make_account(100), cast.make_account(5)

    assert move(sender, receiver, 30) == move(sender, receiver, 30)

    assert (cast.available(sender), cast.available(receiver)) == (70, 35)


def test_a_transfer_needs_credits_of_ones_own():
    sender, receiver = cast.make_account(10), cast.make_account(0)
    ledger.set_overdraft(account_id=sender.pk, overdraft_ucr=100 * UCR)

    with pytest.raises(ledger.InsufficientCredits, match="need 11, have 10"):
        move(sender, receiver, 11)


def test_a_transfer_leaves_expired_and_held_credits_alone():
    sender, receiver = cast.make_account(50), cast.make_account(0)
    cast.give(sender, 50, expires_at=LATER)
    cast.hold(sender, 30, expires_at=LATER + timedelta(days=1))

    with pytest.raises(ledger.InsufficientCredits, match="need 21, have 20"):
        move(sender, receiver, 21, now=LATER)


def test_a_transfer_to_oneself_or_from_a_suspended_account_is_refused():
    sender, receiver = cast.make_account(100, status="suspended"), cast.make_account(0)

    with pytest.raises(ledger.AmountOutOfRange):
        move(sender, sender, 1)
    with pytest.raises(ledger.AccountNotActive):
        move(sender, receiver, 1)


# --- sign-up


def test_a_new_account_gets_its_sign_up_credits_once(settings):
    from billing import signup

    account = cast.make_account(credits=None)

    signup.give_credits(account=account)

    assert cast.available(account) == settings.DEFAULT_CREDITS == 1000
    assert Transaction.objects.filter(account=account).count() == 1


def test_an_account_opened_with_no_credits_has_an_empty_wallet():
    assert cast.available(cast.make_account(0)) == 0


def test_a_statement_is_read_in_the_order_of_its_index():
    """However long it is, its newest lines are found at once."""
    account = cast.make_account(10)
    cast.charge(account, 1)

    lines = [line.line for line in Entry.objects.statement_of(account)]
    with connection.cursor() as cursor:
        cursor.execute("set local enable_seqscan = off")
        cursor.execute("set local enable_sort = off")
        plan = Entry.objects.statement_of(account).select_related("transaction")[:50].explain()

    assert lines == [2, 1]
    assert "one_entry_per_statement_line" in plan
    assert "Sort" not in plan
