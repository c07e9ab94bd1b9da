"""What happens when money does not come, or is taken back: the steps of dunning, and disputes."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from uuid_utils.compat import uuid7

from billing import amounts
from billing.models.invoices import Invoice
from billing.models.ledger import Account, Grant, OfAccount, Transaction
from billing.models.payments import Payment


class DunningStep(models.Model):
    """A reminder of an overdue invoice: so many days after its due date, once."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="dunning_steps", db_index=False)
    days = models.PositiveSmallIntegerField()
    # Whether this step is what stopped the account.
    suspended = models.BooleanField(default=False)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["invoice", "days"], name="one_dunning_step_per_day")]

    def __str__(self) -> str:
        return f"day {self.days} of {self.invoice}"


class Dispute(models.Model):
    """A payment that its payer wants back from the gateway: opened -> under_review -> won | lost.

    The unspent credits it paid for are taken when it opens and given back when it is won. When it is lost the rest is
    taken too, which may leave arrears.
    """

    class State(models.TextChoices):
        OPENED = "opened"
        UNDER_REVIEW = "under_review"
        WON = "won"
        LOST = "lost"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="disputes", db_index=False)
    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, related_name="disputes")
    gateway = models.CharField(max_length=20)
    gateway_ref = models.CharField(max_length=200)
    state = models.CharField(max_length=12, choices=State.choices, default=State.OPENED)
    reason = models.CharField(max_length=300, blank=True)
    # Until when the gateway takes evidence, where it says so.
    evidence_due_at = models.DateTimeField(null=True, blank=True)
    # Of the payment, in minor units: at most what was not refunded, nor disputed before.
    amount = models.BigIntegerField()
    credits_ucr = models.BigIntegerField()
    # Taken when it opened; the rest when it was lost.
    taken_ucr = models.BigIntegerField(default=0)
    taken = models.OneToOneField(Transaction, on_delete=models.PROTECT, null=True, related_name="dispute")
    rest = models.OneToOneField(Transaction, on_delete=models.PROTECT, null=True, related_name="lost_dispute")
    restored = models.OneToOneField(Grant, on_delete=models.PROTECT, null=True, related_name="dispute")
    created_at = models.DateTimeField()
    settled_at = models.DateTimeField(null=True, blank=True)

    objects = OfAccount.as_manager()
    OPEN_STATES = (State.OPENED, State.UNDER_REVIEW)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["gateway", "gateway_ref"], name="one_dispute_per_gateway_ref"),
            models.CheckConstraint(
                condition=Q(amount__gte=0, taken_ucr__gte=0, taken_ucr__lte=F("credits_ucr")), name="dispute_adds_up"
            ),
            models.CheckConstraint(
                condition=Q(taken_ucr=0, taken=None) | Q(taken_ucr__gt=0, taken__isnull=False),
                name="dispute_took_its_credits",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["opened", "under_review"], settled_at=None)
                | Q(state__in=["won", "lost"], settled_at__isnull=False),
                name="dispute_settled_iff_final",
            ),
            models.CheckConstraint(condition=Q(restored=None) | Q(state="won"), name="dispute_restored_only_when_won"),
            models.CheckConstraint(condition=Q(rest=None) | Q(state="lost"), name="dispute_takes_the_rest_when_lost"),
        ]
        indexes = [models.Index(fields=["account", "-created_at", "-id"], name="dispute_newest")]

    def __str__(self) -> str:
        return f"dispute of {amounts.money_text(self.amount, self.payment.currency)} {self.payment.currency}"

    @property
    def is_open(self) -> bool:
        return self.state in self.OPEN_STATES


class DisputeEvidence(models.Model):
    """What staff handed in for a dispute: created -> unknown -> accepted | refused. Its texts never change."""

    class State(models.TextChoices):
        CREATED = "created"
        UNKNOWN = "unknown"
        ACCEPTED = "accepted"
        REFUSED = "refused"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    dispute = models.ForeignKey(Dispute, on_delete=models.PROTECT, related_name="evidence")
    state = models.CharField(max_length=8, choices=State.choices, default=State.CREATED)
    # By evidence_texts.FIELDS.
    texts = models.JSONField()
    detail = models.CharField(max_length=300, blank=True)
    key = models.CharField(max_length=300)
    request_hash = models.CharField(max_length=64)
    actor = models.CharField(max_length=80, blank=True)
    request_id = models.CharField(max_length=128, blank=True)
    ask_at = models.DateTimeField(null=True, blank=True)
    asked_times = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField()
    settled_at = models.DateTimeField(null=True, blank=True)

    OPEN_STATES = (State.CREATED, State.UNKNOWN)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["dispute", "key"], name="one_evidence_per_key"),
            models.UniqueConstraint(
                fields=["dispute"], condition=Q(state__in=["created", "unknown"]), name="one_open_evidence_per_dispute"
            ),
            models.CheckConstraint(
                condition=Q(state__in=["created", "unknown"], settled_at=None)
                | Q(state__in=["accepted", "refused"], settled_at__isnull=False),
                name="evidence_settled_iff_final",
            ),
        ]
        indexes = [models.Index(fields=["ask_at"], condition=Q(ask_at__isnull=False), name="evidence_to_ask_about")]

    def __str__(self) -> str:
        return f"evidence ({self.state})"

    @property
    def is_open(self) -> bool:
        return self.state in self.OPEN_STATES
