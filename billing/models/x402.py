"""Payments that were signed and sent along with a request (x402)."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from uuid_utils.compat import uuid7

from billing.models.customers import Account


class X402Authorization(models.Model):
    """What a payer signed, once for its nonce: accepted -> sent to the facilitator -> settled | refused."""

    class State(models.TextChoices):
        ACCEPTED = "accepted"
        SENT = "sent"
        SETTLED = "settled"
        REFUSED = "refused"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="x402_authorizations")
    # Of the request it came with: the same one may come again.
    key = models.CharField(max_length=300)
    credits_ucr = models.BigIntegerField()
    scheme = models.CharField(max_length=10)
    network = models.CharField(max_length=60)
    asset = models.CharField(max_length=42)
    pay_to = models.CharField(max_length=42)
    payer = models.CharField(max_length=42)
    nonce = models.CharField(max_length=66)
    # The most that was signed for, and what is settled of it.
    most_units = models.BigIntegerField()
    units = models.BigIntegerField()
    valid_before = models.DateTimeField()
    first_block = models.BigIntegerField()
    payload = models.JSONField()
    state = models.CharField(max_length=10, choices=State.choices, default=State.ACCEPTED)
    # The payment's id and its money, as the gateway was given them.
    reference = models.CharField(max_length=200, null=True, blank=True, unique=True)  # noqa: DJ001 - unique
    amount = models.BigIntegerField(default=0)
    currency = models.CharField(max_length=3, blank=True)
    tx_hash = models.CharField(max_length=66, null=True, blank=True)  # noqa: DJ001 - unique
    reason = models.CharField(max_length=60, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["network", "scheme", "payer", "nonce"], name="one_x402_per_nonce"),
            models.UniqueConstraint(fields=["account", "key"], name="one_x402_per_key"),
            models.UniqueConstraint(fields=["network", "tx_hash"], name="one_x402_per_transaction"),
            models.CheckConstraint(
                condition=Q(units__gt=0, most_units__gte=F("units")) & (~Q(scheme="exact") | Q(units=F("most_units"))),
                name="x402_settles_within_what_was_signed",
            ),
            models.CheckConstraint(
                condition=Q(state="settled", tx_hash__isnull=False) | (~Q(state="settled") & Q(tx_hash=None)),
                name="x402_has_a_transaction_iff_settled",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.units} of {self.payer} ({self.state})"
