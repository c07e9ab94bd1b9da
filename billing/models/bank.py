"""Money that comes by bank transfer: what is awaited, what the statements say came, and which belongs to which."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from uuid_utils.compat import uuid7

from billing import amounts
from billing.bank import references
from billing.models.ledger import Grant, Transaction


class BankTransfer(models.Model):
    """A payment that is awaited at our bank. Its number makes its reference; `received` is the sum of its matches."""

    # Our id of the payment.
    key = models.CharField(max_length=200, unique=True)
    request_hash = models.CharField(max_length=64)
    amount = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    received = models.BigIntegerField(default=0)
    created_at = models.DateTimeField()
    cancelled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(amount__gt=0, received__gte=0, received__lte=F("amount")),
                name="transfer_received_within_amount",
            ),
        ]

    def __str__(self) -> str:
        return self.reference

    @property
    def reference(self) -> str:
        return references.make(self.pk)

    @property
    def missing(self) -> int:
        return self.amount - self.received


class BankStatement(models.Model):
    """A file that was imported, once."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=200)
    digest = models.CharField(max_length=64, unique=True)
    iban = models.CharField(max_length=34)
    # Lines it was the first to have; that another file had before; and that are no money that came.
    new = models.PositiveIntegerField(default=0)
    known = models.PositiveIntegerField(default=0)
    skipped = models.PositiveIntegerField(default=0)
    actor = models.CharField(max_length=80, blank=True)
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name


class BankLine(models.Model):
    """Money that came, as the bank says it. `matched` is the sum of its matches, which the database keeps."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    statement = models.ForeignKey(BankStatement, on_delete=models.PROTECT, related_name="lines")
    iban = models.CharField(max_length=34)
    # What it is known by when it comes again; see bank/lines.py.
    identity = models.CharField(max_length=100)
    booked_on = models.DateField()
    valued_on = models.DateField(null=True, blank=True)
    amount = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    text = models.CharField(max_length=1000, blank=True)
    reference = models.CharField(max_length=25, blank=True)
    payer_name = models.CharField(max_length=140, blank=True)
    payer_iban = models.CharField(max_length=34, blank=True)
    bank_ref = models.CharField(max_length=100, blank=True)
    matched = models.BigIntegerField(default=0)
    # When it was tried whether it matches by itself.
    tried_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["iban", "identity"], name="one_bank_line_per_identity"),
            models.CheckConstraint(
                condition=Q(amount__gt=0, matched__gte=0, matched__lte=F("amount")), name="bank_line_matched_within_it"
            ),
        ]
        indexes = [
            models.Index(
                fields=["booked_on", "id"], condition=Q(matched__lt=F("amount")), name="bank_line_left_to_match"
            ),
            models.Index(fields=["id"], condition=Q(tried_at=None), name="bank_line_to_try"),
        ]

    def __str__(self) -> str:
        return f"{amounts.money_text(self.amount, self.currency)} {self.currency} of {self.booked_on}"

    @property
    def left(self) -> int:
        return self.amount - self.matched


class BankMatch(models.Model):
    """What a line, or a part of it, is: a payment, money to give back, or nothing of ours. Append-only."""

    class Kind(models.TextChoices):
        PAYMENT = "payment"
        RETURN = "return", "To give back"
        FOREIGN = "foreign", "Not ours"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    line = models.ForeignKey(BankLine, on_delete=models.PROTECT, related_name="matches")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    transfer = models.ForeignKey(BankTransfer, on_delete=models.PROTECT, null=True, blank=True, related_name="matches")
    amount = models.BigIntegerField()
    # `system` where all was exact, else who did it.
    actor = models.CharField(max_length=80)
    reason = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount__gt=0), name="bank_match_is_positive"),
            models.CheckConstraint(
                condition=Q(kind="payment", transfer__isnull=False)
                | (Q(kind__in=["return", "foreign"]) & Q(transfer=None)),
                name="bank_match_of_payment_names_it",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.amount}"


class BankUndo(models.Model):
    """A match that was wrong, taken back, once. Append-only. The database takes it off the line and the transfer.

    If a payment had succeeded by it: which, the how manieth time it waits again, and what was taken of its credits.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    match = models.OneToOneField(BankMatch, on_delete=models.PROTECT, related_name="undo")
    payment = models.ForeignKey(
        "billing.Payment", on_delete=models.PROTECT, null=True, blank=True, related_name="bank_undos"
    )
    turn = models.PositiveSmallIntegerField(null=True, blank=True)
    grant = models.OneToOneField(Grant, on_delete=models.PROTECT, null=True, blank=True, related_name="bank_undo")
    taken = models.OneToOneField(Transaction, on_delete=models.PROTECT, null=True, blank=True, related_name="bank_undo")
    actor = models.CharField(max_length=80)
    reason = models.CharField(max_length=300)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["payment", "turn"], name="one_bank_undo_per_turn"),
            models.CheckConstraint(
                condition=Q(payment=None, turn=None, grant=None, taken=None)
                | Q(payment__isnull=False, turn__gt=0, grant__isnull=False, taken__isnull=False),
                name="bank_undo_of_a_success_took_its_credits",
            ),
        ]

    def __str__(self) -> str:
        return f"undoing of {self.match}"


class BankReturn(models.Model):
    """Money that staff sends back at the bank: a refund of a payment, or what came and was not asked for."""

    class State(models.TextChoices):
        DUE = "due"
        SENT = "sent"
        # Its match was undone before it was sent.
        DROPPED = "dropped"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # A refund's id, or the match's.
    key = models.CharField(max_length=200, unique=True)
    transfer = models.ForeignKey(BankTransfer, on_delete=models.PROTECT, null=True, blank=True, related_name="returns")
    match = models.OneToOneField(BankMatch, on_delete=models.PROTECT, null=True, blank=True, related_name="giving_back")
    amount = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    payer_name = models.CharField(max_length=140, blank=True)
    payer_iban = models.CharField(max_length=34, blank=True)
    state = models.CharField(max_length=8, choices=State.choices, default=State.DUE)
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)
    sent_by = models.CharField(max_length=80, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount__gt=0), name="bank_return_is_positive"),
            models.CheckConstraint(
                condition=Q(transfer__isnull=False, match=None) | Q(transfer=None, match__isnull=False),
                name="bank_return_has_one_origin",
            ),
            models.CheckConstraint(
                condition=Q(state="sent", sent_at__isnull=False) | Q(state__in=["due", "dropped"], sent_at=None),
                name="bank_return_sent_iff_it_has_a_time",
            ),
        ]

    def __str__(self) -> str:
        return f"{amounts.money_text(self.amount, self.currency)} {self.currency} ({self.state})"
