"""Credit notes: what is taken off a final invoice, which itself never changes. Append-only but for their refund."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from uuid_utils.compat import uuid7

from billing.models.customers import Account
from billing.models.invoices import Invoice, InvoiceLine, InvoiceSeries
from billing.models.ledger import Grant, OfAccount
from billing.models.payments import Payment, Refund


class CreditNote(models.Model):
    """Part or all of an invoice, taken back; its names and addresses are the invoice's.

    total = due_reduced (owed no more) + refund_amount (money that goes back) + granted (given as credits)
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="credit_notes")
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="credit_notes")
    series = models.ForeignKey(InvoiceSeries, on_delete=models.PROTECT, related_name="credit_notes")
    sequence = models.PositiveIntegerField()
    number = models.CharField(max_length=30, unique=True)
    # Minor units of the invoice's currency.
    subtotal = models.BigIntegerField()
    tax = models.BigIntegerField()
    total = models.BigIntegerField()
    due_reduced = models.BigIntegerField()
    refund_amount = models.BigIntegerField()
    granted = models.BigIntegerField()
    # All credits that it gave; those of a refund are taken back with it.
    granted_ucr = models.BigIntegerField()
    grant = models.OneToOneField(Grant, on_delete=models.PROTECT, null=True, related_name="credit_note")
    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, null=True, related_name="credit_notes")
    refund = models.OneToOneField(Refund, on_delete=models.PROTECT, null=True, related_name="credit_note")
    # The gateway has not been told yet.
    refund_is_due = models.BooleanField(default=False)
    reason = models.CharField(max_length=300)
    key = models.CharField(max_length=300)
    request_hash = models.CharField(max_length=64)
    actor = models.CharField(max_length=80, blank=True)
    created_at = models.DateTimeField()

    objects = OfAccount.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "key"], name="one_credit_note_per_key"),
            models.UniqueConstraint(fields=["series", "sequence"], name="one_credit_note_per_number"),
            models.CheckConstraint(condition=Q(total=F("subtotal") + F("tax")), name="credit_note_total_adds_up"),
            models.CheckConstraint(
                condition=Q(total=F("due_reduced") + F("refund_amount") + F("granted")),
                name="credit_note_is_settled_in_full",
            ),
            models.CheckConstraint(
                condition=Q(total__gt=0, subtotal__gte=0, tax__gte=0, due_reduced__gte=0, refund_amount__gte=0)
                & Q(granted__gte=0, granted_ucr__gte=0),
                name="credit_note_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(granted_ucr=0, grant=None) | Q(granted_ucr__gt=0, grant__isnull=False),
                name="credit_note_gave_its_credits",
            ),
            models.CheckConstraint(
                condition=Q(refund_amount=0, payment=None, refund=None, refund_is_due=False)
                | Q(refund_amount__gt=0, payment__isnull=False),
                name="credit_note_refunds_a_payment",
            ),
        ]
        indexes = [
            models.Index(fields=["account", "-created_at", "-id"], name="credit_note_newest"),
            models.Index(fields=["created_at"], condition=Q(refund_is_due=True), name="credit_note_to_refund"),
        ]

    def __str__(self) -> str:
        return self.number

    @property
    def currency(self) -> str:
        return self.invoice.currency


class CreditNoteLine(models.Model):
    """What is taken off one line, before tax."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    note = models.ForeignKey(CreditNote, on_delete=models.PROTECT, related_name="lines", db_index=False)
    line = models.ForeignKey(InvoiceLine, on_delete=models.PROTECT, related_name="credited")
    amount = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["note", "line"], name="one_credit_per_note_and_line"),
            models.CheckConstraint(condition=Q(amount__gt=0), name="credit_note_line_is_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.amount} of {self.line_id}"
