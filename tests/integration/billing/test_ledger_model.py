"""The ledger against a small model in memory: whatever is done in whatever order, both agree.

Every verb may crash at any of its statements, which leaves nothing behind, and every request may come again, which
changes nothing, or with its key and other contents, which is refused.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from billing import budgets, ledger
from billing.models import Budget, BudgetCounter, Grant, Hold, LedgerAccount
from tests import ledger_cast as cast
from tests.ledger_cast import NOON, UCR

AMOUNTS = st.integers(1, 60)
PICK = st.integers(0, 20)
# At which statement the process dies, if it does. More than any verb has, so that some die after their last one.
CRASH = st.one_of(st.none(), st.none(), st.integers(0, 16))


@dataclass
class Given:
    priority: int
    expires_at: datetime | None
    age: int
    left: int
    is_bought: bool = True


@dataclass
class Limit:
    """A budget that blocks, of everything that was spent since it was made."""

    most: int
    spent: int = 0
    held: int = 0


@dataclass
class Set:
    amount: int
    expires_at: datetime
    budget: Limit | None
    state: str = "active"

    def end(self, state: str, captured: int = 0) -> None:
        self.state = state
        if self.budget:
            self.budget.held -= self.amount
            self.budget.spent += captured


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
    arrears: int = 0
    grants: list[Given] = field(default_factory=list)
    holds: list[Set] = field(default_factory=list)
    budget: Limit | None = None

    @property
    def posted(self) -> int:
        return sum(grant.left for grant in self.grants) - self.debt

    @property
    def held(self) -> int:
        return sum(hold.amount for hold in self.holds if hold.state == "active")

    def settle(self, most: int | None = None) -> None:
        """How far a refund may have left it below its floor; what is booked later only brings it nearer."""
        below = max(0, self.held - self.posted - self.overdraft)
        self.arrears = below if most is None else min(most, below)

    def lapsed(self, grant: Given) -> bool:
        return grant.expires_at is not None and grant.expires_at <= self.now

    def in_order(self) -> list[Given]:
        far = datetime.max.replace(tzinfo=NOON.tzinfo)
        return sorted(self.grants, key=lambda grant: (grant.priority, grant.expires_at or far, grant.age))

    def expire(self) -> None:
        for grant in self.in_order():
            if self.lapsed(grant):
                taken = min(grant.left, max(0, self.posted - self.held))
                grant.left -= taken
                if taken:
                    self.settle(self.arrears)

    def free(self) -> int:
        """What is there and not held, without what has expired."""
        free = self.posted - self.held
        lapsed = sum(grant.left for grant in self.grants if self.lapsed(grant))
        return free - min(lapsed, max(0, free))

    def need(self, amount: int) -> None:
        """A refusal leaves everything as it was, what has expired included."""
        if self.free() + self.overdraft < amount:
            raise Refused
        if self.budget and self.budget.spent + self.budget.held + amount > self.budget.most:
            raise Refused
        self.expire()

    def burn(self, amount: int, *, held: bool) -> None:
        for grant in self.in_order():
            if held or not self.lapsed(grant):
                taken = min(grant.left, amount)
                grant.left -= taken
                amount -= taken
        self.debt += amount

    def give_away(self, amount: int) -> None:
        """What expires stays where it was given, and an overdraft is for what one uses."""
        lasting = [grant for grant in self.in_order() if grant.expires_at is None]
        if min(self.free(), sum(grant.left for grant in lasting)) < amount:
            raise Refused
        self.expire()
        for grant in lasting:
            taken = min(grant.left, amount)
            grant.left -= taken
            amount -= taken

    def take_back(self, grant: Given, amount: int, *, allow_debt: bool) -> None:
        """From this grant first; what nothing gives is owed."""
        lapsed, arrears = [each.left for each in self.grants], self.arrears
        self.expire()
        free = max(0, self.posted - self.held)
        if min(free, grant.left) < amount and not allow_debt:
            for each, left in zip(self.grants, lapsed, strict=True):
                each.left = left
            self.arrears = arrears
            raise Refused
        left = min(amount, free)
        for each in [grant, *(other for other in self.in_order() if other is not grant)]:
            taken = min(each.left, left)
            each.left -= taken
            left -= taken
            amount -= taken
        self.debt += amount
        self.settle()

    def give(self, grant: Given) -> None:
        repaid = min(self.debt, grant.left)
        self.debt -= repaid
        grant.left -= repaid
        self.grants.append(grant)
        self.settle(self.arrears)

    def usable(self, hold: Set) -> None:
        if hold.state != "active" or hold.expires_at <= self.now:
            raise Refused


REFUSALS = (*ledger.CANNOT_SPEND, ledger.HoldEnded, ledger.AmountOutOfRange, ledger.CreditsSpent)
Verb = Callable[[], object]


@dataclass
class Asked:
    """A request that was done: how it is sent again, what it answered, and how it would say something else."""

    again: Verb
    answered: object
    otherwise: Verb | None = None


def die_at(statement: int) -> Callable[..., object]:
    seen = itertools.count()

    def crash(execute, sql, params, many, context):
        if next(seen) == statement:
            raise Crash
        return execute(sql, params, many, context)

    return crash


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.account = cast.make_account(0)
        self.other = cast.make_account(10**6)
        self.model = Model()
        self.numbers = itertools.count(1)
        self.holds: list[Hold] = []
        self.grants: list[Grant] = []
        self.charges: list[tuple[int, UUID, Limit | None]] = []
        self.asked: list[Asked] = []

    # --- helpers of the rules

    def both(self, in_model: Verb, in_ledger: Verb, *, crash: int | None, otherwise: Verb | None = None, has_key=True):
        """Do it in both; both do it or both refuse. A crash at a statement leaves nothing behind."""
        if crash is not None:
            with pytest.raises((Crash, *REFUSALS)), transaction.atomic():  # noqa: PT012 - or it dies after the last one
                with connection.execute_wrapper(die_at(crash)):
                    in_ledger()
                raise Crash
            return None
        try:
            in_model()
        except Refused:
            with pytest.raises(REFUSALS), transaction.atomic():
                in_ledger()
            return None
        answered = in_ledger()
        if has_key:
            self.asked.append(Asked(in_ledger, answered, otherwise))
        return answered

    def key(self) -> str:
        return f"{self.account.pk}:{next(self.numbers)}"

    # --- rules

    @rule(credits=AMOUNTS, priority=st.sampled_from([1, 50]), hours=st.sampled_from([None, 1, 2, 5]), crash=CRASH)
    def grant(self, credits, priority, hours, crash):
        expires_at = self.model.now + timedelta(hours=hours) if hours else None
        given = Given(priority, expires_at, next(self.numbers), credits)
        asked = {"priority": priority, "expires_at": expires_at, "key": self.key()}

        def in_ledger(amount=credits):
            return cast.give(self.account, amount, now=self.model.now, **asked)

        made = self.both(
            lambda: self.model.give(given), in_ledger, crash=crash, otherwise=lambda: in_ledger(credits + 1)
        )
        if made:
            self.grants.append(made)

    @rule(credits=AMOUNTS, crash=CRASH)
    def charge(self, credits, crash):
        key = self.key()

        def in_model():
            self.model.need(credits)
            self.model.burn(credits, held=False)
            if self.model.budget:
                self.model.budget.spent += credits

        def in_ledger(amount=credits):
            return cast.charge(self.account, amount, key=key, now=self.model.now).transaction_id

        made = self.both(in_model, in_ledger, crash=crash, otherwise=lambda: in_ledger(credits + 1))
        if made:
            self.charges.append((credits, made, self.model.budget))

    @rule(credits=AMOUNTS, hours=st.sampled_from([1, 3]), crash=CRASH)
    def hold(self, credits, hours, crash):
        key, expires_at = self.key(), self.model.now + timedelta(hours=hours)

        def in_model():
            self.model.need(credits)
            self.model.holds.append(Set(credits, expires_at, self.model.budget))
            if self.model.budget:
                self.model.budget.held += credits

        def in_ledger(amount=credits):
            return cast.hold(self.account, amount, key=key, expires_at=expires_at, now=self.model.now)

        made = self.both(in_model, in_ledger, crash=crash, otherwise=lambda: in_ledger(credits + 1))
        if made:
            self.holds.append(made)

    @rule(pick=PICK, share=st.sampled_from([1, 50, 100]), crash=CRASH)
    def capture(self, pick, share, crash):
        if not self.holds:
            return
        place, key = pick % len(self.holds), self.key()
        wanted, held = self.model.holds[place], self.holds[place]
        credits = max(1, wanted.amount * share // 100)

        def in_model():
            self.model.usable(wanted)
            wanted.end("captured", credits)
            self.model.burn(credits, held=True)

        def in_ledger():
            asked = {"hold_key": held.key, "amount_ucr": credits * UCR, "key": key, "source": "test"}
            return ledger.capture(**asked, now=self.model.now).transaction_id

        self.both(in_model, in_ledger, crash=crash)

    @rule(pick=PICK, crash=CRASH)
    def release(self, pick, crash):
        if not self.holds:
            return
        place = pick % len(self.holds)
        wanted, held = self.model.holds[place], self.holds[place]
        if wanted.state == "released":
            return

        def in_model():
            self.model.usable(wanted)
            wanted.end("released")

        self.both(in_model, lambda: ledger.release(key=held.key, now=self.model.now), crash=crash)

    @rule(pick=PICK, crash=CRASH)
    def reverse_a_charge(self, pick, crash):
        if not self.charges:
            return
        place, key = pick % len(self.charges), self.key()
        credits, charged, budget = self.charges[place]

        def in_ledger():
            return ledger.reverse(transaction_id=charged, key=key, reason="", now=self.model.now)

        def in_model():
            # What it gave back is a grant that nobody asked for by itself.
            self.model.give(Given(50, None, next(self.numbers), credits, is_bought=False))
            if budget:
                budget.spent -= credits

        if self.both(in_model, in_ledger, crash=crash):
            del self.charges[place]

    @rule(pick=PICK, credits=AMOUNTS, debt=st.booleans(), crash=CRASH)
    def refund(self, pick, credits, debt, crash):
        """Bought credits are taken back, because their money goes back."""
        if not self.grants:
            return
        place, key = pick % len(self.grants), self.key()
        given = [each for each in self.model.grants if each.is_bought][place]

        def in_ledger(amount=credits):
            return ledger.take_back(
                account_id=self.account.pk, grant_ids=[self.grants[place].pk], amount_ucr=amount * UCR, key=key,
                source="test", allow_debt=debt, now=self.model.now,
            )  # fmt: skip

        self.both(
            lambda: self.model.take_back(given, credits, allow_debt=debt), in_ledger, crash=crash,
            otherwise=lambda: in_ledger(credits + 1),
        )  # fmt: skip

    @rule(credits=AMOUNTS, crash=CRASH)
    def give_away(self, credits, crash):
        self._move(self.account, self.other, credits, lambda: self.model.give_away(credits), crash)

    @rule(credits=AMOUNTS, crash=CRASH)
    def get(self, credits, crash):
        given = Given(50, None, next(self.numbers), credits, is_bought=False)
        self._move(self.other, self.account, credits, lambda: self.model.give(given), crash)

    def _move(self, sender, receiver, credits, in_model, crash):
        key = self.key()

        def in_ledger(amount=credits):
            return ledger.transfer(
                from_account_id=sender.pk, to_account_id=receiver.pk, amount_ucr=amount * UCR, key=key,
                now=self.model.now,
            )  # fmt: skip

        self.both(in_model, in_ledger, crash=crash, otherwise=lambda: in_ledger(credits + 1))

    @rule(most=st.integers(1, 150), crash=CRASH)
    def set_a_budget(self, most, crash):
        before = Budget.objects.filter(account=self.account).first()

        def in_model():
            self.model.budget = self.model.budget or Limit(most)
            self.model.budget.most = most

        def in_ledger():
            if before:
                return budgets.change(budget=before, limit_ucr=most * UCR)
            said = {"scope": "account", "period": "total", "action": "block", "now": self.model.now}
            return budgets.create(account=self.account, limit_ucr=most * UCR, **said)

        self.both(in_model, in_ledger, crash=crash, has_key=False)

    @rule(crash=CRASH)
    def end_the_budget(self, crash):
        before = Budget.objects.filter(account=self.account).first()
        if before:
            forget = partial(setattr, self.model, "budget", None)
            self.both(forget, lambda: budgets.remove(budget=before), crash=crash, has_key=False)

    @rule(pick=PICK)
    def the_same_again_answers_the_first(self, pick):
        if self.asked:
            asked = self.asked[pick % len(self.asked)]
            assert asked.again() == asked.answered

    @rule(pick=PICK)
    def the_same_key_for_something_else_is_refused(self, pick):
        if self.asked and (otherwise := self.asked[pick % len(self.asked)].otherwise):
            with pytest.raises(ledger.KeyReused), transaction.atomic():
                otherwise()

    @rule(credits=st.integers(0, 80), crash=CRASH)
    def allow_an_overdraft(self, credits, crash):
        def in_model():
            if self.model.posted - self.model.held < -credits - self.model.arrears:
                raise Refused
            self.model.overdraft = credits
            self.model.settle(self.model.arrears)

        def in_ledger():
            ledger.set_overdraft(account_id=self.account.pk, overdraft_ucr=credits * UCR)

        self.both(in_model, in_ledger, crash=crash, has_key=False)

    @rule(hours=st.sampled_from([1, 2]))
    def time_passes(self, hours):
        self.model.now += timedelta(hours=hours)

    @rule(crash=CRASH)
    def holds_expire(self, crash):
        def in_model():
            for hold in self.model.holds:
                if hold.state == "active" and hold.expires_at <= self.model.now:
                    hold.end("expired")

        self.both(in_model, lambda: ledger.expire_holds(now=self.model.now), crash=crash, has_key=False)

    @rule(crash=CRASH)
    def grants_expire(self, crash):
        self.both(self.model.expire, lambda: ledger.expire_grants(now=self.model.now), crash=crash, has_key=False)

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
        wanted = self.model.budget or Limit(0)
        counted = BudgetCounter.objects.filter(budget__account=self.account).values_list("spent_ucr", "held_ucr")
        assert (*counted, (0, 0))[0] == (wanted.spent * UCR, wanted.held * UCR)

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
