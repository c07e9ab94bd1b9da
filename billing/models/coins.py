"""Coins on their way: what is to be paid at which address, and the transfers that came. Money is in atomic units."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from uuid_utils.compat import uuid7

from billing.models.ledger import Grant


class ChainCursor(models.Model):
    """How far a chain was read, and which address is given out next."""

    network = models.CharField(max_length=60, primary_key=True)
    # All up to here is deep enough to stay, and is not read again.
    final_block = models.BigIntegerField()
    final_hash = models.CharField(max_length=66)
    next_index = models.BigIntegerField(default=0)
    # Who read while another wrote reads again.
    version = models.BigIntegerField(default=0)
    read_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.network} up to {self.final_block}"


class CoinQuote(models.Model):
    """What one order is to be paid with, and where. An address is given out once, so that what comes is known."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # The payment's id, as the gateway was given it.
    reference = models.CharField(max_length=200, unique=True)
    network = models.CharField(max_length=60)
    token = models.CharField(max_length=42)
    address = models.CharField(max_length=42)
    units = models.BigIntegerField()
    amount = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    expires_at = models.DateTimeField()
    return_url = models.CharField(max_length=2000, blank=True)
    cancelled_at = models.DateTimeField(null=True, blank=True)
    # What was last said of it to the payment.
    said = models.CharField(max_length=16, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["network", "address"], name="one_coin_quote_per_address"),
            models.CheckConstraint(condition=Q(units__gt=0, amount__gt=0), name="coin_quote_is_positive"),
        ]
        indexes = [models.Index(fields=["network", "expires_at"], name="coin_quote_watched")]

    def __str__(self) -> str:
        return f"{self.units} at {self.address}"


class CoinTransfer(models.Model):
    """One transfer to an address of ours.

    seen -> orphaned (its block was taken back) -> seen
    seen -> counted (deep enough, and part of what was asked) | waiting (deep enough, for staff: more, late, or short)
    counted, waiting -> lost (a block deeper than any should was taken back after all)
    """

    class State(models.TextChoices):
        SEEN = "seen"
        ORPHANED = "orphaned"
        COUNTED = "counted"
        WAITING = "waiting"
        LOST = "lost"

    class Resolution(models.TextChoices):
        CREDITED = "credited"
        DISMISSED = "dismissed"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    network = models.CharField(max_length=60)
    tx_hash = models.CharField(max_length=66)
    log_index = models.BigIntegerField()
    block = models.BigIntegerField()
    quote = models.ForeignKey(CoinQuote, on_delete=models.PROTECT, related_name="transfers")
    sender = models.CharField(max_length=42)
    units = models.BigIntegerField()
    # What of it the payment does not cover: staff decide.
    surplus_units = models.BigIntegerField(default=0)
    state = models.CharField(max_length=10, choices=State.choices, default=State.SEEN)
    why = models.CharField(max_length=100, blank=True)
    resolution = models.CharField(max_length=10, choices=Resolution.choices, blank=True)
    resolved_by = models.CharField(max_length=80, blank=True)
    resolved_at = models.DateTimeField(null=True, blank=True)
    grant = models.OneToOneField(Grant, on_delete=models.PROTECT, null=True, blank=True, related_name="coin_transfer")
    seen_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["network", "tx_hash", "log_index"], name="one_coin_transfer_per_log"),
            models.CheckConstraint(
                condition=Q(units__gt=0, surplus_units__gte=0, units__gte=F("surplus_units")),
                name="coin_transfer_is_positive",
            ),
            models.CheckConstraint(
                condition=Q(resolution="", resolved_at=None) | (~Q(resolution="") & Q(resolved_at__isnull=False)),
                name="coin_transfer_resolved_has_a_time",
            ),
            models.CheckConstraint(
                condition=Q(resolution="credited", grant__isnull=False) | (~Q(resolution="credited") & Q(grant=None)),
                name="coin_transfer_granted_iff_credited",
            ),
        ]
        indexes = [models.Index(fields=["quote", "state"], name="coin_transfer_of_quote")]

    def __str__(self) -> str:
        return f"{self.units} in {self.tx_hash} ({self.state})"


class CoinRefund(models.Model):
    """A transfer that the operator has to make, since money of a payment goes back. No key to do it is here.

    pending -> sent (staff names its transaction) -> confirmed (the chain has it, deep enough)
    pending, sent -> failed (given up: it is not on the chain)
    """

    class State(models.TextChoices):
        PENDING = "pending"
        SENT = "sent"
        CONFIRMED = "confirmed"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # Of the refund, and of the payment it belongs to, as the gateway was given them.
    key = models.CharField(max_length=200, unique=True)
    reference = models.CharField(max_length=200, db_index=True)
    network = models.CharField(max_length=60)
    token = models.CharField(max_length=42)
    recipient = models.CharField(max_length=42)
    units = models.BigIntegerField()
    # Minor units of the payment's currency.
    amount = models.BigIntegerField()
    # An older transaction proves nothing.
    first_block = models.BigIntegerField()
    state = models.CharField(max_length=10, choices=State.choices, default=State.PENDING)
    tx_hash = models.CharField(max_length=66, blank=True)
    block = models.BigIntegerField(null=True, blank=True)
    why = models.CharField(max_length=200, blank=True)
    sent_by = models.CharField(max_length=80, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(units__gt=0, amount__gt=0), name="coin_refund_is_positive"),
            models.CheckConstraint(
                condition=Q(state="pending", tx_hash="", sent_at=None)
                | Q(state="failed")
                | (Q(state__in=["sent", "confirmed"], sent_at__isnull=False) & ~Q(tx_hash="")),
                name="coin_refund_sent_names_its_transaction",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["pending", "sent"], settled_at=None)
                | Q(state__in=["confirmed", "failed"], settled_at__isnull=False),
                name="coin_refund_settled_iff_final",
            ),
            models.CheckConstraint(
                condition=Q(block=None) | Q(block__gte=F("first_block")), name="coin_refund_is_newer_than_its_asking"
            ),
            models.UniqueConstraint(
                fields=["network", "tx_hash", "recipient"],
                condition=Q(state__in=["sent", "confirmed"]),
                name="one_coin_refund_per_transaction",
            ),
        ]
        indexes = [
            models.Index(fields=["created_at"], condition=Q(state__in=["pending", "sent"]), name="coin_refund_waiting")
        ]

    def __str__(self) -> str:
        return f"{self.units} to {self.recipient} ({self.state})"


class SimulatedBlock(models.Model):
    """A block of the chain that is played here; only chains/simulated.py touches it. A re-organisation deletes some."""

    number = models.BigIntegerField(primary_key=True)
    hash = models.CharField(max_length=66, unique=True)
    time = models.DateTimeField()

    def __str__(self) -> str:
        return f"block {self.number}"


class SimulatedTransfer(models.Model):
    """A log in a block of the chain that is played here. `copies` of it are answered."""

    id = models.BigAutoField(primary_key=True)
    block = models.ForeignKey(SimulatedBlock, on_delete=models.CASCADE, related_name="transfers")
    tx_hash = models.CharField(max_length=66)
    log_index = models.BigIntegerField()
    token = models.CharField(max_length=42)
    sender = models.CharField(max_length=42)
    recipient = models.CharField(max_length=42)
    units = models.BigIntegerField()
    copies = models.PositiveSmallIntegerField(default=1)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tx_hash", "log_index"], name="one_simulated_transfer_per_log")]

    def __str__(self) -> str:
        return f"{self.units} to {self.recipient}"
