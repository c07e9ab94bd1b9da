"""Payments against a small model in memory: words come twice, late, in any order or not at all, and we crash at any step.

The gateway's own books say what it took. Whatever happens, once every answer is known the customer has exactly the
credits of what was taken less what was given back, and nobody was charged twice for one key.
"""

from __future__ import annotations

import itertools
import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from billing import gateway_webhooks, janitor, ledger, payments, refunds
from billing.gateways import registry
from billing.models import Dispute, LedgerAccount, Payment, Refund, SimulatedPayment
from billing.payment_states import LIVE, RANK, REFUND_LIVE, State
from tests import ledger_cast as cast
from tests.ledger_cast import UCR
from tests.payment_cast import signed

PICK = st.integers(0, 20)
CREDITS = st.integers(1, 40)
METHODS = st.sampled_from(
    ["sim_ok", "sim_declined", "sim_action_required", "sim_unknown", "sim_duplicate_webhook", "sim_reordered_webhook"]
)
WORDS = st.sampled_from(["under_review", "won", "lost"])
# Rows written before the crash; more than any act writes, so that some acts finish.
STATEMENTS = st.integers(0, 45)
RARELY = st.one_of(st.just(10_000), st.just(10_000), STATEMENTS)


class Crash(BaseException):
    """Nothing catches it, as nothing catches a power cut."""


@contextmanager
def crashing_at(statement: int):
    """The process dies at this statement; what was committed by then stays."""
    seen = itertools.count()

    def die(execute, sql, params, many, context):
        # After a crash PostgreSQL itself rolls back; here this transaction goes on, so that has to be let through.
        if not sql.startswith("ROLLBACK") and next(seen) == statement:
            raise Crash
        return execute(sql, params, many, context)

    try:
        with connection.execute_wrapper(die):
            yield
    except Crash:
        pass


@dataclass
class Asked:
    """What a customer asked for: all we must not forget."""

    credits: int
    method: str


class PaymentMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.account = cast.make_account(0)
        self.asked: dict[str, Asked] = {}
        self.numbers = itertools.count(1)
        self.now: datetime = timezone.now()
        self.spent = 0
        self.ranks: dict[object, int] = {}
        self.kept: list[tuple[bytes, dict[str, str]]] = []

    # --- what customers do

    @rule(credits=CREDITS, method=METHODS, statement=RARELY)
    def buy(self, credits, method, statement):
        key = f"{self.account.pk}:{next(self.numbers)}"
        self.asked[key] = Asked(credits, method)
        self._buy(key, statement)

    @rule(pick=PICK, statement=STATEMENTS)
    def buy_again_with_the_same_key(self, pick, statement):
        if self.asked:
            self._buy(list(self.asked)[pick % len(self.asked)], statement)

    def _buy(self, key: str, statement: int) -> None:
        wanted = self.asked[key]
        said = {"account": self.account, "credits_ucr": wanted.credits * UCR, "method": wanted.method, "key": key}
        with crashing_at(statement):
            payments.top_up(**said, now=self.now)

    @rule(pick=PICK, statement=STATEMENTS, approves=st.booleans())
    def answer_the_bank(self, pick, statement, approves):
        waiting = self._one(Payment.objects.filter(account=self.account, state=State.REQUIRES_ACTION), pick)
        if waiting is not None:
            with crashing_at(statement):
                (payments.confirm if approves else payments.decline)(payment=waiting, now=self.now)

    @rule(pick=PICK, statement=STATEMENTS)
    def cancel(self, pick, statement):
        open_one = self._one(Payment.objects.filter(account=self.account, state__in=LIVE), pick)
        if open_one is not None:
            with crashing_at(statement), suppress(payments.NotCancellable):
                payments.cancel(payment=open_one, now=self.now)

    @rule(pick=PICK, share=st.sampled_from([1, 50, 100]), debt=st.booleans(), statement=STATEMENTS)
    def refund(self, pick, share, debt, statement):
        paid = self._one(Payment.objects.filter(account=self.account, state=State.SUCCEEDED), pick)
        if paid is None:
            return
        amount = max(1, paid.amount * share // 100)
        said = {"payment": paid, "amount": amount, "key": f"r{next(self.numbers)}", "allow_debt": debt}
        with crashing_at(statement), suppress(refunds.RefundExceedsPayment, ledger.CreditsSpent):
            payments.refund(**said, now=self.now)

    @rule(credits=CREDITS)
    def spend(self, credits):
        try:
            cast.charge(self.account, credits, key=f"{self.account.pk}:c{next(self.numbers)}", now=self.now)
        except ledger.InsufficientCredits:
            return
        self.spent += credits

    # --- what the other side and the clock do

    @rule(pick=PICK, words=st.lists(WORDS, max_size=2), statement=RARELY)
    def the_payer_disputes(self, pick, words, statement):
        paid = self._one(Payment.objects.filter(account=self.account, state=State.SUCCEEDED), pick)
        if paid is not None:
            with crashing_at(statement):
                payments.raise_dispute(payment=paid, now=self.now)
                for word in words:
                    self._go_on(-1, word)

    @rule(pick=PICK, word=WORDS, statement=RARELY)
    def a_dispute_goes_on(self, pick, word, statement):
        """Also after it was decided, which changes nothing any more."""
        with crashing_at(statement):
            self._go_on(pick, word)

    def _go_on(self, pick, word):
        found = list(
            Dispute.objects.filter(account=self.account).select_related("payment").order_by("created_at", "pk")
        )
        if found:
            payments.play_dispute(dispute=found[pick % len(found)], word=word, now=self.now)

    @rule(statement=STATEMENTS)
    def webhooks_arrive(self, statement):
        with crashing_at(statement):
            registry.simulated().send_webhooks(self._receive)

    def _receive(self, body, headers):
        self.kept.append((body, dict(headers)))
        gateway_webhooks.receive(gateway="simulated", body=body, headers=headers, now=timezone.now())

    @rule(pick=PICK, statement=STATEMENTS)
    def an_old_webhook_comes_again(self, pick, statement):
        if self.kept:
            body, _ = self.kept[pick % len(self.kept)]
            headers = signed(body)  # the gateway signs anew when it sends again
            with crashing_at(statement):
                gateway_webhooks.receive(gateway="simulated", body=body, headers=headers, now=timezone.now())

    @rule(seconds=st.sampled_from([1, 6, 31, 700]))
    def time_passes(self, seconds):
        self.now += timedelta(seconds=seconds)

    @rule(statement=STATEMENTS)
    def the_janitor_comes(self, statement):
        with crashing_at(statement):
            janitor.sweep(now=self.now)

    @rule(statement=STATEMENTS)
    def failed_webhooks_are_tried_again(self, statement):
        with crashing_at(statement):
            gateway_webhooks.sweep(now=self.now)

    def _one(self, rows, pick):
        found = list(rows.select_related("account", "invoice").order_by("created_at", "pk"))
        return found[pick % len(found)] if found else None

    # --- what must hold after every step

    @invariant()
    def states_only_go_forward(self):
        for pk, state in Payment.objects.filter(account=self.account).values_list("pk", "state"):
            assert RANK[State(state)] >= self.ranks.get(pk, 0)
            self.ranks[pk] = RANK[State(state)]

    @invariant()
    def nothing_is_granted_that_was_not_taken(self):
        for payment in Payment.objects.filter(account=self.account, state=State.SUCCEEDED):
            theirs = SimulatedPayment.objects.get(reference=str(payment.pk))
            assert (theirs.captured, payment.captured) == (payment.amount, payment.amount)
            assert theirs.refunded <= payment.refunded + payment.refunding

    @invariant()
    def one_key_is_one_payment(self):
        assert Payment.objects.filter(account=self.account).count() <= len(self.asked)
        references = SimulatedPayment.objects.values_list("reference", flat=True)
        assert len(references) == len(set(references))

    @invariant()
    def the_books_are_right(self):
        cast.assert_books_are_right()

    # --- what must hold once everything has been said

    def teardown(self):
        self._let_everything_be_said()
        mine = Payment.objects.filter(account=self.account)
        assert not mine.filter(state__in=LIVE).exists()
        assert not Refund.objects.filter(account=self.account, state__in=REFUND_LIVE).exists()
        taken = back = credits = 0
        for payment in mine:
            theirs = SimulatedPayment.objects.filter(reference=str(payment.pk)).first()
            captured, refunded = (theirs.captured, theirs.refunded) if theirs else (0, 0)
            assert (payment.captured, payment.refunded) == (captured, refunded)
            taken += captured
            back += refunded
            # A cent a credit.
            credits += (captured - refunded) * UCR
        for dispute in Dispute.objects.filter(account=self.account):
            # What is taken until it is decided, nothing, or all of it.
            credits -= {Dispute.State.WON: 0, Dispute.State.LOST: dispute.credits_ucr}.get(
                dispute.state, dispute.taken_ucr
            )
        wallet = LedgerAccount.objects.get(account=self.account)
        assert wallet.posted_ucr == credits - self.spent * UCR
        cast.assert_books_are_right()

    def _let_everything_be_said(self):
        for _ in range(4):
            registry.simulated().send_webhooks(self._receive)
            self.now += timedelta(hours=25)
            gateway_webhooks.sweep(now=self.now)
            janitor.sweep(now=self.now)


@pytest.mark.django_db
def test_payments_agree_with_the_gateway_s_books_whatever_happens():
    quick = settings(
        max_examples=int(os.environ.get("NTD_PAYMENT_EXAMPLES", "12")),
        stateful_step_count=20,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(PaymentMachine, settings=quick)
