"""USDC to an address: what came is credited once or waits for staff, whatever the chain takes back."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from billing import coins, janitor, payments, settlement, tasks
from billing.chains import NoAnswer, simulated
from billing.gateways import registry, usdc
from billing.models import CoinQuote, CoinTransfer, Grant, Payment, SimulatedBlock
from tests import ledger_cast as cast
from tests.payment_cast import buy, now, opened, send_and_crash

pytestmark = pytest.mark.django_db
DEPTH = 12
PRICE = 1_000_000  # 100 credits of 0.01 cost 1.00


@pytest.fixture(autouse=True)
def _on(settings):
    settings.SIMULATED_CHAIN, settings.USDC_RATE, settings.USDC_CONFIRMATIONS = True, "1", DEPTH
    simulated.mine(now=now(), blocks=20)


@pytest.fixture
def account():
    account = cast.make_account(0)
    yield account
    cast.assert_books_are_right()


def ask(account, credits: int = 100) -> tuple[Payment, CoinQuote]:
    payment = buy(account, credits, "usdc")
    return payment, CoinQuote.objects.get(reference=str(payment.pk))


def send(quote, units: int = PRICE, **how):
    return simulated.send(recipient=quote.address, units=units, now=now(), **how)


def watch(blocks: int = 0, *, at=None) -> None:
    if blocks:
        simulated.mine(now=now(), blocks=blocks)
    coins.sweep(gateway=registry.usdc(), now=at or now())


def state(payment) -> str:
    payment.refresh_from_db()
    return payment.state


def transfers() -> list[tuple[str, int]]:
    return [(each.state, each.surplus_units) for each in CoinTransfer.objects.order_by("block", "log_index")]


def late(quote):
    return quote.expires_at + timedelta(seconds=1)


def test_a_chain_that_has_only_begun_is_read_like_any_other(account, caplog):
    SimulatedBlock.objects.all().delete()
    payment, quote = ask(account)

    watch()

    assert not caplog.records
    send(quote)
    watch(DEPTH)
    assert state(payment) == "succeeded"


def test_an_address_of_its_own_is_asked_to_be_paid_at(account):
    (first, one), (second, two) = ask(account), ask(account)

    assert (first.state, second.state) == ("requires_action", "requires_action")
    assert (one.units, one.address != two.address) == (PRICE, True)
    assert cast.available(account, now()) == 0


def test_what_comes_is_processing_at_first_sight_and_succeeds_when_it_is_deep_enough(account):
    payment, quote = ask(account)
    send(quote)

    watch()
    assert (state(payment), cast.available(account, now())) == ("processing", 0)
    watch(DEPTH - 2)
    assert state(payment) == "processing"
    watch(1)
    assert (state(payment), cast.available(account, now())) == ("succeeded", 100)
    watch(5)
    assert (Grant.objects.count(), transfers()) == (1, [("counted", 0)])


def test_a_transfer_that_is_taken_back_counts_nothing_until_it_is_there_again(account):
    payment, quote = ask(account)
    made = send(quote)
    watch()

    simulated.take_back(blocks=1, now=now())
    watch(DEPTH)
    assert (state(payment), transfers(), cast.available(account, now())) == ("processing", [("orphaned", 0)], 0)

    send(quote, tx_hash=made.tx_hash)
    watch(DEPTH)
    assert (state(payment), transfers(), cast.available(account, now())) == ("succeeded", [("counted", 0)], 100)


def test_one_that_is_taken_back_and_never_comes_again_fails_in_the_end(account):
    payment, quote = ask(account)
    send(quote)
    watch()
    simulated.take_back(blocks=1, now=now())

    watch(DEPTH, at=late(quote))

    assert (state(payment), payment.failure_code) == ("failed", "expired")


@pytest.mark.parametrize(
    ("sent", "surplus"),
    [
        ([PRICE], [0]),
        ([PRICE // 2, PRICE // 2], [0, 0]),
        ([PRICE + 7], [7]),
        ([PRICE - 1, 3], [0, 2]),
        ([PRICE, PRICE], [0, PRICE]),
    ],
)
def test_parts_add_up_and_what_is_too_much_waits_for_staff(account, sent, surplus):
    payment, quote = ask(account)
    for units in sent:
        send(quote, units)

    watch(DEPTH)

    assert (state(payment), cast.available(account, now())) == ("succeeded", 100)
    assert [each[1] for each in transfers()] == surplus
    assert [each.surplus_units for each in coins.queue()] == [each for each in surplus if each]


def test_too_little_fails_when_the_time_is_over_and_waits_for_staff(account):
    payment, quote = ask(account)
    send(quote, PRICE // 4)
    watch(DEPTH)
    assert state(payment) == "processing"

    watch(1, at=late(quote))
    assert (state(payment), payment.failure_code, transfers()) == ("failed", "underpaid", [("waiting", PRICE // 4)])
    (waiting,) = coins.queue()
    coins.credit(transfer=waiting, actor="user:staff", now=now())
    for again in (coins.credit, coins.dismiss):
        with pytest.raises(coins.NotWaiting):
            again(transfer=waiting, actor="user:staff", now=now())
    assert (cast.available(account, now()), list(coins.queue())) == (25, [])


def test_all_of_it_but_late_is_honoured(account):
    payment, quote = ask(account)
    watch(at=late(quote))
    assert (state(payment), payment.failure_code) == ("failed", "expired")

    send(quote)
    watch(DEPTH, at=late(quote))

    assert (state(payment), cast.available(account, now())) == ("succeeded", 100)


def test_a_part_of_it_and_late_waits_for_staff(account):
    payment, quote = ask(account)
    watch(at=late(quote))
    send(quote, 5)

    watch(DEPTH, at=late(quote))

    assert (state(payment), transfers()) == ("failed", [("waiting", 5)])


def test_what_was_given_up_and_is_paid_after_all_is_honoured(account):
    payment, quote = ask(account)
    assert payments.cancel(payment=payment, now=now()).state == "cancelled"
    send(quote)

    watch(DEPTH)

    assert (state(payment), cast.available(account, now())) == ("succeeded", 100)


def test_what_is_on_its_way_is_not_given_up(account):
    payment, quote = ask(account)
    send(quote)
    watch()
    payment.refresh_from_db()

    payments.cancel(payment=payment, now=now())

    assert state(payment) == "processing"


def test_spam_and_repeats_change_nothing(account):
    payment, quote = ask(account)
    send(quote, 0)
    send(quote, PRICE, token="0x" + "ee" * 20)
    send(quote, PRICE, copies=3)

    for _ in range(3):
        watch(DEPTH)

    assert (state(payment), transfers(), cast.available(account, now())) == ("succeeded", [("counted", 0)], 100)


def test_a_crash_before_the_payment_is_told_costs_a_sweep(account, monkeypatch):
    payment, quote = ask(account)
    send(quote)

    def dead(**_):
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(settlement, "settle", dead)
        with pytest.raises(RuntimeError):
            watch(DEPTH)
    assert (state(payment), transfers()) == ("requires_action", [("counted", 0)])
    watch()

    assert (state(payment), Grant.objects.count()) == ("succeeded", 1)


def test_a_crash_before_the_address_is_written_down_gives_the_same_address(account):
    payment = opened(account, 100, "usdc")
    send_and_crash(payment)
    send(CoinQuote.objects.get())
    watch(DEPTH)

    janitor.sweep(now=now() + timedelta(minutes=1))

    assert (state(payment), CoinQuote.objects.count(), Grant.objects.count()) == ("succeeded", 1, 1)


def test_a_reading_that_another_sweep_overtook_is_not_kept(account):
    payment, quote = ask(account)
    stale = coins._read(registry.usdc(), now())
    send(quote)
    watch()

    coins._keep(simulated.NETWORK, stale, now())

    assert transfers() == [("seen", 0)]


def test_a_final_block_that_is_taken_back_is_told_to_staff_and_books_nothing_twice(account):
    payment, quote = ask(account)
    made = send(quote)
    watch(DEPTH)
    assert state(payment) == "succeeded"

    simulated.take_back(blocks=DEPTH + 1, now=now())
    send(quote, tx_hash=made.tx_hash, log_index=9)
    watch(DEPTH)

    assert (state(payment), cast.available(account, now())) == ("succeeded", 100)
    assert sorted(transfers()) == [("lost", 0), ("waiting", PRICE)]
    for each in coins.queue():
        coins.dismiss(transfer=each, actor="user:staff", now=now())
    assert list(coins.queue()) == []


def test_a_chain_that_is_silent_loses_nothing(account, monkeypatch):
    payment, quote = ask(account)
    send(quote)

    def silent(*_, **__):
        raise NoAnswer("down")

    with monkeypatch.context() as patched:
        patched.setattr(simulated.SimulatedChain, "head", silent)
        watch(DEPTH)
    assert state(payment) == "requires_action"
    watch()

    assert state(payment) == "succeeded"


def test_the_database_books_a_transfer_once(account):
    _, quote = ask(account)
    send(quote)
    watch()
    same = CoinTransfer.objects.get()

    same.pk, same._state.adding = None, True
    with pytest.raises(IntegrityError), transaction.atomic():
        same.save(force_insert=True)


def test_listed_addresses_are_given_out_once_and_then_there_is_none(account, settings):
    gateway = usdc.UsdcGateway(
        simulated.SimulatedChain(),
        usdc.Terms(simulated.TOKEN, "1", DEPTH, addresses=("0x" + "aa" * 20,)),
        clock=now,
    )
    settings.SIMULATED_CHAIN = True
    payments_ = [opened(account, 100, "usdc") for _ in range(2)]
    gateway.create(settlement.order(payments_[0]))
    with pytest.raises(usdc.Refused, match="No address is left"):
        gateway.create(settlement.order(payments_[1]))


@pytest.mark.parametrize(
    ("amount", "currency", "rate", "units"),
    [(100, "EUR", "1.1", 1_100_000), (1, "EUR", "1.1234567", 11_235), (1, "JPY", "0.0066", 6_600)],
)
def test_the_price_in_usdc_is_rounded_up(amount, currency, rate, units):
    assert usdc.units_of(amount, currency, rate) == units


def test_the_background_task_lets_the_played_chain_go_on_while_anything_waits_for_it(account):
    payment, quote = ask(account)
    send(quote)
    for _ in range(DEPTH):
        tasks.sweep_coins()
    assert state(payment) == "succeeded"

    before = simulated.SimulatedChain().head()
    tasks.sweep_coins()
    assert simulated.SimulatedChain().head() == before


def test_the_background_task_does_nothing_where_no_chain_is_read(account, settings):
    payment, quote = ask(account)
    send(quote)
    settings.SIMULATED_CHAIN = False

    tasks.sweep_coins()

    assert (state(payment), transfers()) == ("requires_action", [])
