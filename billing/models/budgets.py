"""Budgets: what an account may spend on something in a period, what was spent of it, and who was told.

Counters change only in the functions of the database that charge and hold (sql/0014_budget_functions.sql), under the
wallet's lock, so that spends at the same moment see each other.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from uuid_utils.compat import uuid7

from billing.models.customers import Account
from billing.models.ledger import Hold, OfAccount, Transaction


class Budget(models.Model):
    """A limit for all of an account, or for one agent, API key or meter of it."""

    class Scope(models.TextChoices):
        ACCOUNT = "account"
        AGENT = "agent"
        API_KEY = "api_key"
        METER = "meter"

    class Period(models.TextChoices):
        """Calendar periods in the account's time zone."""

        DAY = "day"
        WEEK = "week"
        MONTH = "month"
        TOTAL = "total"

    class Action(models.TextChoices):
        NOTIFY = "notify"
        BLOCK = "block"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="budgets")
    scope = models.CharField(max_length=8, choices=Scope.choices)
    target = models.CharField(max_length=100, blank=True)
    period = models.CharField(max_length=6, choices=Period.choices)
    limit_ucr = models.BigIntegerField()
    action = models.CharField(max_length=6, choices=Action.choices)
    # Percents of the limit; each is told once a period.
    thresholds = models.JSONField(default=list)
    created_at = models.DateTimeField()

    objects = OfAccount.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(limit_ucr__gt=0), name="budget_is_positive"),
            models.CheckConstraint(
                condition=Q(scope__in=["account", "agent", "api_key", "meter"])
                & Q(period__in=["day", "week", "month", "total"])
                & Q(action__in=["notify", "block"]),
                name="budget_words",
            ),
            models.CheckConstraint(
                condition=Q(scope="account", target="") | (~Q(scope="account") & ~Q(target="")),
                name="budget_names_its_target",
            ),
            models.UniqueConstraint(
                fields=["account", "scope", "target", "period", "action"], name="one_budget_for_each_thing"
            ),
        ]

    def __str__(self) -> str:
        what = {"account": "everything", "api_key": "API key", "agent": "agent", "meter": "meter"}[self.scope]
        when = "in total" if self.period == "total" else f"a {self.period}"
        return f"{what} {self.target}".strip() + f" {when}"


class BudgetCounter(models.Model):
    """What was spent, and is held, of a budget in one period."""

    id = models.BigAutoField(primary_key=True)
    budget = models.ForeignKey(Budget, on_delete=models.CASCADE, related_name="counters", db_index=False)
    period_start = models.DateTimeField()
    spent_ucr = models.BigIntegerField(default=0)
    held_ucr = models.BigIntegerField(default=0)
    # Its period is long over, and what counted on it is forgotten: nothing is given back to it any more.
    is_over = models.BooleanField(default=False, db_default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["budget", "period_start"], name="one_counter_per_period"),
            models.CheckConstraint(condition=Q(spent_ucr__gte=0, held_ucr__gte=0), name="budget_counter_not_negative"),
        ]
        indexes = [
            models.Index(fields=["period_start"], condition=Q(is_over=False), name="budget_counter_not_over"),
        ]

    def __str__(self) -> str:
        return f"{self.spent_ucr} since {self.period_start}"


class BudgetReservation(models.Model):
    """What a hold keeps of a counter until it ends."""

    id = models.BigAutoField(primary_key=True)
    hold = models.ForeignKey(Hold, on_delete=models.CASCADE, related_name="reservations", db_index=False)
    counter = models.ForeignKey(BudgetCounter, on_delete=models.CASCADE, related_name="reservations")
    amount_ucr = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["hold", "counter"], name="one_reservation_per_counter")]

    def __str__(self) -> str:
        return f"{self.amount_ucr} of {self.counter_id}"


class BudgetSpend(models.Model):
    """What a transaction counted on a counter: its reversal gives so much back, in the period it was counted in.

    Forgotten when that period is long over (budgets.forget).
    """

    id = models.BigAutoField(primary_key=True)
    transaction = models.ForeignKey(Transaction, on_delete=models.PROTECT, related_name="+", db_index=False)
    counter = models.ForeignKey(BudgetCounter, on_delete=models.CASCADE, related_name="spends")
    amount_ucr = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["transaction", "counter"], name="one_spend_per_counter"),
            models.CheckConstraint(condition=Q(amount_ucr__gt=0), name="budget_spend_is_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.amount_ucr} on {self.counter_id}"


class Alert(models.Model):
    """That something is to be told: a budget's threshold, a spend that it refused, or credits running low."""

    class Kind(models.TextChoices):
        THRESHOLD = "threshold"
        BLOCKED = "blocked"
        LOW_BALANCE = "low_balance"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="alerts", db_index=False)
    kind = models.CharField(max_length=12, choices=Kind.choices)
    budget = models.ForeignKey(Budget, on_delete=models.CASCADE, null=True, blank=True, related_name="alerts")
    period_start = models.DateTimeField(null=True, blank=True)
    # Percent of the limit; 0 for a refused spend.
    threshold = models.PositiveSmallIntegerField(default=0)
    # What was spent, or is left, when it was noticed; and of what.
    amount_ucr = models.BigIntegerField()
    limit_ucr = models.BigIntegerField()
    created_at = models.DateTimeField()
    told_at = models.DateTimeField(null=True, blank=True)

    objects = OfAccount.as_manager()
    OF_BUDGET: ClassVar = (Kind.THRESHOLD, Kind.BLOCKED)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["budget", "period_start", "kind", "threshold"],
                condition=Q(budget__isnull=False),
                name="one_alert_per_threshold_and_period",
            ),
            models.CheckConstraint(
                condition=Q(kind="low_balance", budget=None) | (~Q(kind="low_balance") & Q(budget__isnull=False)),
                name="alerts_of_budgets_name_them",
            ),
        ]
        indexes = [
            models.Index(fields=["account", "-created_at", "-id"], name="alert_newest"),
            models.Index(fields=["created_at"], condition=Q(told_at=None), name="alert_to_tell"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.threshold or ''}".strip()


class BalanceWatch(models.Model):
    """Below how many credits an account is warned. Told once each time; armed again when there are enough."""

    account = models.OneToOneField(Account, on_delete=models.CASCADE, primary_key=True, related_name="balance_watch")
    threshold_ucr = models.BigIntegerField()
    is_armed = models.BooleanField(default=False)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(threshold_ucr__gt=0), name="balance_watch_is_positive")]

    def __str__(self) -> str:
        return f"below {self.threshold_ucr}"
