"""What customers used, each record charged at most once, and the running totals that prices are taken of."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from uuid_utils.compat import uuid7

from billing import amounts, pricing
from billing.models.customers import Account
from billing.models.ledger import OfAccount, Transaction
from billing.models.prices import Price


class UsageRecord(models.Model):
    """One event. Append-only; a second one with the same (account, source, key) is the same event."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # That account, price and transaction are there is checked once for all records of a statement (sql/0025).
    account = models.ForeignKey(
        Account, on_delete=models.PROTECT, related_name="usage", db_index=False, db_constraint=False
    )
    source = models.CharField(max_length=200)
    key = models.CharField(max_length=300)
    request_hash = models.CharField(max_length=64)
    meter = models.CharField(max_length=20, choices=[(meter.value, meter.value) for meter in pricing.Meter])
    quantity = models.DecimalField(max_digits=38, decimal_places=9)
    agent = models.CharField(max_length=100, blank=True)
    # The key that asked for it, if one did; keys are revoked and stay.
    api_key = models.UUIDField(null=True, blank=True)
    properties = models.JSONField(default=dict, blank=True)
    price = models.ForeignKey(Price, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False)
    # What the price says, what was charged of it (a hold caps it), and what no grant covered.
    rated_ucr = models.BigIntegerField()
    cost_ucr = models.BigIntegerField()
    overdraft_ucr = models.BigIntegerField(default=0)
    # The events of one meter that came together are charged together.
    transaction = models.ForeignKey(
        Transaction, on_delete=models.PROTECT, null=True, related_name="usages", db_constraint=False
    )
    occurred_at = models.DateTimeField()
    # The moment it is invoiced at: when it occurred, unless that period was final already (late).
    billed_at = models.DateTimeField()
    late = models.BooleanField(default=False)
    created_at = models.DateTimeField()

    objects = OfAccount.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "source", "key"], name="one_usage_record_per_key"),
            models.CheckConstraint(condition=Q(quantity__gt=0), name="usage_is_positive"),
            models.CheckConstraint(
                condition=Q(cost_ucr__gte=0, cost_ucr__lte=F("rated_ucr")), name="usage_costs_at_most_its_price"
            ),
            models.CheckConstraint(
                condition=Q(overdraft_ucr__gte=0, overdraft_ucr__lte=F("cost_ucr")), name="usage_overdraft_within_cost"
            ),
            models.CheckConstraint(
                condition=Q(cost_ucr=0, transaction=None) | Q(cost_ucr__gt=0, transaction__isnull=False),
                name="usage_with_a_cost_has_a_transaction",
            ),
        ]
        indexes = [
            models.Index(fields=["account", "occurred_at"], name="usage_by_occurrence"),
            models.Index(fields=["account", "billed_at"], name="usage_by_billing"),
            models.Index(fields=["account", "-created_at", "-id"], name="usage_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} {self.meter}"

    @property
    def shown_quantity(self) -> str:
        return amounts.plain_quantity(self.quantity)


class Rating(models.Model):
    """The running total of one account, meter, price and period: what cumulative rounding starts from."""

    id = models.BigAutoField(primary_key=True)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="ratings", db_index=False)
    meter = models.CharField(max_length=20)
    price = models.ForeignKey(Price, on_delete=models.PROTECT, related_name="+", db_index=False)
    period_start = models.DateTimeField()
    quantity = models.DecimalField(max_digits=38, decimal_places=9)
    rated_ucr = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "meter", "price", "period_start"], name="one_rating"),
            models.CheckConstraint(condition=Q(quantity__gt=0, rated_ucr__gte=0), name="rating_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.meter} since {self.period_start}"
