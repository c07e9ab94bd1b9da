"""Invoices: draft -> open -> paid | void | uncollectible. Final ones never change (triggers); overdue is derived."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from django.db import models
from django.db.models import F, Q
from uuid_utils.compat import uuid7

from billing import amounts
from billing.models.customers import Account
from billing.models.ledger import OfAccount


class InvoiceSeries(models.Model):
    """Where numbers come from: the row is locked while a number is taken, so there are no gaps."""

    id = models.BigAutoField(primary_key=True)
    prefix = models.CharField(max_length=12, blank=True)
    year = models.PositiveSmallIntegerField()
    last_number = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["prefix", "year"], name="one_series_per_prefix_and_year")]

    def __str__(self) -> str:
        return f"{self.prefix}{self.year}"


class Invoice(models.Model):
    """The statement of a period in money: what its usage cost, what credits covered, what is due."""

    class State(models.TextChoices):
        DRAFT = "draft"
        OPEN = "open"
        PAID = "paid"
        VOID = "void"
        UNCOLLECTIBLE = "uncollectible"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="invoices")
    state = models.CharField(max_length=14, choices=State.choices, default=State.DRAFT)
    series = models.ForeignKey(InvoiceSeries, on_delete=models.PROTECT, null=True, related_name="invoices")
    sequence = models.PositiveIntegerField(null=True)
    number = models.CharField(max_length=30, null=True, unique=True)  # noqa: DJ001 - drafts have none, and it is unique
    period_start = models.DateTimeField()
    period_end = models.DateTimeField()
    currency = models.CharField(max_length=3)
    # Minor units of the currency.
    subtotal = models.BigIntegerField(default=0)
    tax_rate = models.DecimalField(max_digits=5, decimal_places=4, default=0)
    tax = models.BigIntegerField(default=0)
    total = models.BigIntegerField(default=0)
    credits_applied = models.BigIntegerField(default=0)
    amount_due = models.BigIntegerField(default=0)
    due_ucr = models.BigIntegerField(default=0)
    # What credit notes took off it later: of the total, of what was due, and of the credits that were due.
    credited = models.BigIntegerField(default=0)
    credited_due = models.BigIntegerField(default=0)
    credited_due_ucr = models.BigIntegerField(default=0)
    # Why there is no tax on it.
    tax_note = models.CharField(max_length=300, blank=True)
    # Names and addresses as they were when the invoice became final.
    seller = models.JSONField(default=dict, blank=True)
    customer = models.JSONField(default=dict, blank=True)
    reason = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField()
    finalized_at = models.DateTimeField(null=True, blank=True)
    due_at = models.DateTimeField(null=True, blank=True)
    paid_at = models.DateTimeField(null=True, blank=True)
    # The payment that paid it; none where it was paid elsewhere, by credits or by a credit note.
    paid_with = models.ForeignKey(
        "billing.Payment", on_delete=models.PROTECT, null=True, blank=True, related_name="paid_invoices"
    )
    voided_at = models.DateTimeField(null=True, blank=True)

    objects = OfAccount.as_manager()
    FINAL_STATES = (State.OPEN, State.PAID, State.UNCOLLECTIBLE)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["account", "period_start", "period_end"],
                condition=~Q(state="void"),
                name="one_invoice_per_period",
            ),
            models.UniqueConstraint(fields=["series", "sequence"], name="one_invoice_per_number"),
            models.CheckConstraint(condition=Q(period_start__lt=F("period_end")), name="invoice_period_is_not_empty"),
            models.CheckConstraint(condition=Q(total=F("subtotal") + F("tax")), name="invoice_total_adds_up"),
            models.CheckConstraint(
                condition=Q(amount_due=F("total") - F("credits_applied")), name="invoice_amount_due_adds_up"
            ),
            models.CheckConstraint(
                condition=Q(amount_due__gte=0, credits_applied__gte=0, subtotal__gte=0, tax__gte=0),
                name="invoice_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(credited__gte=F("credited_due"), credited__lte=F("total"))
                & Q(credited_due__gte=0, credited_due__lte=F("amount_due"))
                & Q(credited_due_ucr__gte=0, credited_due_ucr__lte=F("due_ucr")),
                name="invoice_credited_at_most_what_it_says",
            ),
            models.CheckConstraint(
                condition=Q(credited=0) | Q(state__in=["open", "paid", "uncollectible"]),
                name="only_final_invoices_are_credited",
            ),
            models.CheckConstraint(
                condition=Q(state="draft", number=None) | Q(state="void") | Q(number__isnull=False),
                name="final_invoices_are_numbered",
            ),
            models.CheckConstraint(
                condition=~Q(state="paid") | Q(paid_at__isnull=False), name="paid_invoices_have_a_time"
            ),
            models.CheckConstraint(
                condition=Q(paid_with=None) | Q(state="paid"), name="only_paid_invoices_are_paid_with_something"
            ),
        ]
        indexes = [models.Index(fields=["account", "-created_at", "-id"], name="invoice_newest")]

    def __str__(self) -> str:
        return self.number or "draft invoice"

    @property
    def is_final(self) -> bool:
        return self.state in self.FINAL_STATES

    @property
    def last_moment(self) -> datetime:
        """For people, who name a period by its first and last day."""
        return self.period_end - timedelta(microseconds=1)

    @property
    def is_unpaid(self) -> bool:
        return self.state in (self.State.OPEN, self.State.UNCOLLECTIBLE)

    @property
    def open_amount(self) -> int:
        """What is still to be paid, in minor units."""
        return self.left_due if self.is_unpaid else 0

    @property
    def left_due(self) -> int:
        """What was due, less what credit notes took off it."""
        return self.amount_due - self.credited_due

    @property
    def open_ucr(self) -> int:
        """The credits that paying it settles."""
        return self.due_ucr - self.credited_due_ucr

    @property
    def left_to_credit(self) -> int:
        return self.total - self.credited

    def is_overdue(self, now: datetime) -> bool:
        return self.state == self.State.OPEN and self.due_at is not None and self.due_at <= now

    def money(self, minor: int) -> str:
        return amounts.money_text(minor, self.currency)


class InvoiceLine(models.Model):
    """What one meter cost in the period."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="lines", db_index=False)
    position = models.PositiveSmallIntegerField()
    meter = models.CharField(max_length=20)
    description = models.CharField(max_length=200)
    quantity = models.DecimalField(max_digits=38, decimal_places=9)
    unit = models.CharField(max_length=20)
    # "1.00" per 3600 seconds, which people call an hour; empty for prices that are not one rate.
    unit_price = models.CharField(max_length=40, blank=True)
    per = models.DecimalField(max_digits=38, decimal_places=9, default=1)
    per_unit = models.CharField(max_length=40, blank=True)
    cost_ucr = models.BigIntegerField()
    amount = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["invoice", "position"], name="one_line_per_position"),
            models.CheckConstraint(condition=Q(amount__gte=0, cost_ucr__gte=0), name="invoice_line_not_negative"),
        ]

    def __str__(self) -> str:
        return self.description

    @property
    def priced_quantity(self) -> Decimal:
        """In the unit people know the price by: hours, not seconds."""
        return self.quantity / self.per
