"""The ledger against a small model in memory: whatever is done in whatever order, both agree."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from billing import ledger
from billing.models import Grant, Hold, LedgerAccount
from tests import ledger_cast as cast
from tests.ledger_cast import NOON, UCR

AMOUNTS = st.integers(1, 60)
PICK = st.integers(0, 20)


@dataclass
class Given:
    priority: int
    expires_at: datetime | None
    age: int
    left: int


@dataclass
class Set:
    amount: int
    expires_at: datetime
    state: str = "active"


class Refused(Exception):
    pass


class Crash(Exception):
    pass


@dataclass
class Model:
    """What an account's credits should be; whole credits, and time that only moves on."""

    now: datetime = NOON
    overdraft: int = 0
    debt: int = 0
    grants: list[Given] = field(default_factory=list)
    holds: list[Set] = field(default_factory=list)

    @property
    def posted(self) -> int:
        return sum(grant.left for grant in self.grants) - self.debt

    @property
    def held(self) -> int:
        return sum(hold.amount for hold in self.holds if hold.state == "active")

    def lapsed(self, grant: Given) -> bool:
        return grant.expires_at is not None and grant.expires_at <= self.now

    def in_order(self) -> list[Given]:
        far = datetime.max.replace(tzinfo=NOON.tzinfo)
        return sorted(self.grants, key=lambda grant: (grant.priority, grant.expires_at or far, grant.age))

    def expire(self) -> None:
        for grant in self.in_order():
            if self.lapsed(grant):
                grant.left -= min(grant.left, max(0, self.posted - self.held))

    def need(self, amount: int) -> None:
        """A refusal leaves everything as it was, what has expired included."""
        free = self.posted - self.held
        lapsed = sum(grant.left for grant in self.grants if self.lapsed(grant))
        if free - min(lapsed, max(0, free)) + self.overdraft < amount:
            raise Refused
        self.expire()

    def burn(self, amount: int, *, held: bool) -> None:
        for grant in self.in_order():
            if held or not self.lapsed(grant):
                taken = min(grant.left, amount)
                grant.left -= taken
                amount -= taken
        self.debt += amount

    def give(self, grant: Given) -> None:
        repaid = min(self.debt, grant.left)
        self.debt -= repaid
        grant.left -= repaid
        self.grants.append(grant)

    def usable(self, hold: Set) -> None:
        if hold.state != "active" or hold.expires_at <= self.now:
            raise Refused


REFUSALS = (ledger.InsufficientCredits, ledger.HoldEnded, ledger.AmountOutOfRange)


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.account = cast.make_account(0)
        self.model = Model()
        self.numbers = itertools.count(1)
        self.holds: list[Hold] = []
        self.done: list[dict[str, object]] = []

    # --- helpers of the rules

    def both(self, in_model, in_ledger):
        """Do it in both; both do it or both refuse."""
        try:
            in_model()
            refused = False
        except Refused:
            refused = True
        if refused:
            with pytest.raises(REFUSALS), transaction.atomic():
                in_ledger()
        else:
            in_ledger()

    def key(self) -> str:
        return f"{self.account.pk}:{next(self.numbers)}"

    # --- rules

    @rule(credits=AMOUNTS, priority=st.sampled_from([1, 50]), hours=st.sampled_from([None, 1, 2, 5]))
    def grant(self, credits, priority, hours):
        expires_at = self.model.now + timedelta(hours=hours) if hours else None
        self.model.give(Given(priority, expires_at, next(self.numbers), credits))
        cast.give(self.account, credits, priority=priority, expires_at=expires_at, now=self.model.now, key=self.key())

    @rule(credits=AMOUNTS)
    def charge(self, credits):
        asked = {"credits": credits, "key": self.key(), "now": self.model.now}

        def in_model():
            self.model.need(credits)
            self.model.burn(credits, held=False)
            self.done.append(asked)

        self.both(in_model, lambda: cast.charge(self.account, **asked))

    @rule(pick=PICK)
    def replay_a_charge(self, pick):
        if self.done:
            asked = self.done[pick % len(self.done)]
            assert cast.charge(self.account, **asked | {"now": self.model.now}).replayed

    @rule(credits=AMOUNTS, hours=st.sampled_from([1, 3]))
    def hold(self, credits, hours):
        expires_at = self.model.now + timedelta(hours=hours)

        def in_model():
            self.model.need(credits)
            self.model.holds.append(Set(credits, expires_at))

        def in_ledger():
            self.holds.append(
                cast.hold(self.account, credits, key=self.key(), expires_at=expires_at, now=self.model.now)
            )

        self.both(in_model, in_ledger)

    @rule(pick=PICK, share=st.sampled_from([1, 50, 100]))
    def capture(self, pick, share):
        if not self.holds:
            return
        place = pick % len(self.holds)
        wanted, held = self.model.holds[place], self.holds[place]
        credits = max(1, wanted.amount * share // 100)

        def in_model():
            self.model.usable(wanted)
            wanted.state = "captured"
            self.model.burn(credits, held=True)

        def in_ledger():
            ledger.capture(
                hold_key=held.key, amount_ucr=credits * UCR, key=self.key(), source="test", now=self.model.now
            )

        self.both(in_model, in_ledger)

    @rule(pick=PICK)
    def release(self, pick):
        if not self.holds:
            return
        place = pick % len(self.holds)
        wanted, held = self.model.holds[place], self.holds[place]
        if wanted.state == "released":
            return

        def in_model():
            self.model.usable(wanted)
            wanted.state = "released"

        self.both(in_model, lambda: ledger.release(key=held.key, now=self.model.now))

    @rule(pick=PICK)
    def reverse_a_charge(self, pick):
        if not self.done:
            return
        asked = self.done.pop(pick % len(self.done))
        receipt = cast.charge(self.account, **asked | {"now": self.model.now})
        ledger.reverse(transaction_id=receipt.transaction_id, key=self.key(), reason="", now=self.model.now)
        self.model.give(Given(50, None, next(self.numbers), asked["credits"]))

    @rule(credits=st.integers(0, 80))
    def allow_an_overdraft(self, credits):
        def in_model():
            if self.model.posted - self.model.held < -credits:
                raise Refused
            self.model.overdraft = credits

        self.both(in_model, lambda: ledger.set_overdraft(account_id=self.account.pk, overdraft_ucr=credits * UCR))

    @rule(hours=st.sampled_from([1, 2]))
    def time_passes(self, hours):
        self.model.now += timedelta(hours=hours)

    @rule()
    def sweep_holds(self):
        for hold in self.model.holds:
            if hold.state == "active" and hold.expires_at <= self.model.now:
                hold.state = "expired"
        ledger.expire_holds(now=self.model.now)

    @rule()
    def sweep_grants(self):
        self.model.expire()
        ledger.expire_grants(now=self.model.now)

    @rule(credits=AMOUNTS, statement=st.integers(0, 12))
    def crash_while_granting(self, credits, statement):
        """A crash at any statement leaves nothing behind."""
        seen = itertools.count()

        def crash(execute, sql, params, many, context):
            if next(seen) == statement:
                raise Crash
            return execute(sql, params, many, context)

        with pytest.raises(Crash), transaction.atomic():  # noqa: PT012 - a statement that never comes crashes after it
            with connection.execute_wrapper(crash):
                cast.give(self.account, credits, now=self.model.now, key=self.key())
            raise Crash

    # --- what must agree

    @invariant()
    def both_agree(self):
        wallet = LedgerAccount.objects.get(account=self.account)
        assert wallet.posted_ucr == self.model.posted * UCR
        assert wallet.held_ucr == self.model.held * UCR
        assert wallet.debt_ucr == self.model.debt * UCR
        left = sorted(Grant.objects.filter(account=self.account).values_list("remaining_ucr", flat=True))
        assert left == sorted(grant.left * UCR for grant in self.model.grants)
        states = [hold.state for hold in Hold.objects.filter(account=self.account).order_by("pk")]
        assert sorted(states) == sorted(hold.state for hold in self.model.holds)

    def teardown(self):
        cast.assert_books_are_right()


@pytest.mark.django_db
def test_the_ledger_agrees_with_its_model():
    quick = settings(
        max_examples=int(os.environ.get("NTD_LEDGER_EXAMPLES", "15")),
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(LedgerMachine, settings=quick)
