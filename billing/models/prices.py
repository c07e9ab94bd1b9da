"""Price books: versions of what each meter costs, for everybody or for one account."""

from __future__ import annotations

from decimal import Decimal

from django.db import models
from django.db.models import Q
from uuid_utils.compat import uuid7

from billing import pricing
from billing.models.customers import Account


class PriceBook(models.Model):
    """Valid from a moment until the next book of the same account (or of everybody) begins."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=80)
    version = models.PositiveIntegerField()
    account = models.ForeignKey(Account, on_delete=models.PROTECT, null=True, blank=True, related_name="price_books")
    valid_from = models.DateTimeField()
    # When an account's own prices end, and everybody's hold for it again.
    valid_until = models.DateTimeField(null=True, blank=True)
    actor = models.CharField(max_length=80, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["account", "version"], nulls_distinct=False, name="one_price_book_per_version"
            ),
            models.UniqueConstraint(
                fields=["account", "valid_from"], nulls_distinct=False, name="one_price_book_per_moment"
            ),
            models.CheckConstraint(
                condition=Q(valid_until=None) | Q(account__isnull=False), name="only_an_accounts_own_book_ends"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class PriceDraft(models.Model):
    """Prices that nobody pays yet: staff write them, see what they would have cost, and publish them as a book."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=80)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, null=True, blank=True, related_name="price_drafts")
    # As price_texts.as_row writes them.
    prices = models.JSONField(default=list)
    version = models.PositiveIntegerField(default=1)
    actor = models.CharField(max_length=80, blank=True)
    created_at = models.DateTimeField()
    changed_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} (draft)"


class Price(models.Model):
    """One meter's price in a book. Never changed (trigger): a new price is a new book."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    book = models.ForeignKey(PriceBook, on_delete=models.PROTECT, related_name="prices")
    meter = models.CharField(max_length=20, choices=[(meter.value, meter.value) for meter in pricing.Meter])
    shape = models.CharField(max_length=10, choices=[(shape.value, shape.value) for shape in pricing.Shape])
    amount_ucr = models.BigIntegerField(default=0)
    per = models.DecimalField(max_digits=38, decimal_places=9, default=Decimal(1))
    minimum_ucr = models.BigIntegerField(default=0)
    tiers = models.JSONField(default=list, blank=True)
    name = models.CharField(max_length=80)
    unit = models.CharField(max_length=40)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["book", "meter"], name="one_price_per_meter"),
            models.CheckConstraint(
                condition=Q(amount_ucr__gte=0, minimum_ucr__gte=0, per__gt=0), name="price_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.meter} in {self.book_id}"

    def rule(self) -> pricing.Price:
        """The price as the value object that rules calculate with."""
        tiers = tuple(
            pricing.Tier(
                up_to=None if tier["up_to"] is None else Decimal(tier["up_to"]),
                amount_ucr=tier["amount_ucr"],
                fee_ucr=tier.get("fee_ucr", 0),
            )
            for tier in self.tiers
        )
        return pricing.Price(
            meter=self.meter,
            shape=pricing.Shape(self.shape),
            amount_ucr=self.amount_ucr,
            per=self.per,
            minimum_ucr=self.minimum_ucr,
            tiers=tiers,
            name=self.name,
            unit=self.unit,
        )
