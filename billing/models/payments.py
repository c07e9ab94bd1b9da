"""Money on its way: payments, refunds, the methods they are made with, and what the gateways said of them."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.db.models import F, Q
from uuid_utils.compat import uuid7

from billing import amounts, payment_states
from billing.models.customers import Account
from billing.models.invoices import Invoice
from billing.models.ledger import Grant, OfAccount, Transaction
from billing.payment_states import RefundState, State

# As plain text: migrations outlive the rules.
LIVE = [str(each) for each in payment_states.LIVE]
FINAL = [str(each) for each in payment_states.FINAL]
REFUND_LIVE = [str(each) for each in payment_states.REFUND_LIVE]
STATES = [(each.value, each.value.replace("_", " ").capitalize()) for each in State]
REFUND_STATES = [(each.value, each.value.capitalize()) for each in RefundState]


class PaymentMethod(models.Model):
    """What an account pays with: a gateway's token for it, never a card number."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="payment_methods")
    gateway = models.CharField(max_length=20)
    token = models.CharField(max_length=200)
    label = models.CharField(max_length=80)
    is_default = models.BooleanField(default=False)
    # Of a card, as far as its gateway told: what its owner knows it by.
    brand = models.CharField(max_length=30, blank=True, db_default="")
    last4 = models.CharField(max_length=4, blank=True, db_default="")
    exp_month = models.PositiveSmallIntegerField(null=True, blank=True)
    exp_year = models.PositiveSmallIntegerField(null=True, blank=True)
    created_at = models.DateTimeField()
    removed_at = models.DateTimeField(null=True, blank=True)
    # When the gateway is told next that it was removed; nothing when it knows, or keeps nothing.
    forget_at = models.DateTimeField(null=True, blank=True)

    objects = OfAccount.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["account", "gateway", "token"],
                condition=Q(removed_at=None),
                name="one_payment_method_per_token",
            ),
            models.UniqueConstraint(
                fields=["account"], condition=Q(is_default=True), name="one_default_payment_method"
            ),
            models.CheckConstraint(
                condition=Q(is_default=False) | Q(removed_at=None), name="removed_payment_methods_are_no_default"
            ),
            models.CheckConstraint(
                condition=Q(brand="", last4="", exp_month=None, exp_year=None)
                | ~Q(brand="") & Q(last4__regex=r"^[0-9]{4}$", exp_month__range=(1, 12), exp_year__range=(2000, 2199)),
                name="payment_method_is_a_whole_card",
            ),
            models.CheckConstraint(
                condition=Q(forget_at=None) | Q(removed_at__isnull=False), name="only_removed_methods_are_forgotten"
            ),
        ]
        indexes = [
            models.Index(fields=["forget_at"], condition=Q(forget_at__isnull=False), name="payment_method_to_forget")
        ]

    def __str__(self) -> str:
        return self.label

    @property
    def expires(self) -> str:
        """A card's last month, as it is printed on it: `12/30`; empty for what is no card."""
        return f"{self.exp_month:02}/{self.exp_year % 100:02}" if self.exp_month and self.exp_year else ""

    @property
    def choice(self) -> str:
        """As it is chosen among others: two cards may end in the same digits."""
        return f"{self.label}, until {self.expires}" if self.expires else str(self.label)

    def has_expired(self, now: datetime) -> bool:
        """A card is good to the end of its month, somewhere on earth."""
        if self.exp_month is None or self.exp_year is None:
            return False
        yesterday = now - timedelta(days=1)
        return (self.exp_year, self.exp_month) < (yesterday.year, yesterday.month)


class Payment(models.Model):
    """Money asked of a customer. What it buys is granted when it succeeds, once. States: payment_states.py."""

    class Purpose(models.TextChoices):
        TOP_UP = "top_up"
        AUTO_TOP_UP = "auto_top_up"
        INVOICE = "invoice"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="payments", db_index=False)
    purpose = models.CharField(max_length=12, choices=Purpose.choices)
    state = models.CharField(max_length=16, choices=STATES, default=State.CREATED.value)
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, null=True, blank=True, related_name="payments")
    credits_ucr = models.BigIntegerField()
    # Minor units of the currency.
    subtotal = models.BigIntegerField()
    tax = models.BigIntegerField(default=0)
    amount = models.BigIntegerField()
    captured = models.BigIntegerField(default=0)
    refunded = models.BigIntegerField(default=0)
    # Of refunds that are on their way.
    refunding = models.BigIntegerField(default=0)
    # Of disputes that are open or lost.
    disputed = models.BigIntegerField(default=0, db_default=0)
    currency = models.CharField(max_length=3)
    gateway = models.CharField(max_length=20)
    gateway_ref = models.CharField(max_length=200, null=True, blank=True)  # noqa: DJ001 - unique
    method = models.ForeignKey(PaymentMethod, on_delete=models.PROTECT, null=True, blank=True, related_name="payments")
    # As they were: a method may be renamed or removed later.
    method_token = models.CharField(max_length=200)
    method_label = models.CharField(max_length=80)
    grant = models.OneToOneField(Grant, on_delete=models.PROTECT, null=True, blank=True, related_name="payment")
    action_url = models.CharField(max_length=2000, blank=True)
    failure_code = models.CharField(max_length=60, blank=True)
    failure_message = models.CharField(max_length=300, blank=True)
    key = models.CharField(max_length=300)
    request_hash = models.CharField(max_length=64)
    actor = models.CharField(max_length=80, blank=True)
    request_id = models.CharField(max_length=128, blank=True)
    # When the gateway is asked next, while the outcome is open.
    ask_at = models.DateTimeField(null=True, blank=True)
    asked_times = models.PositiveIntegerField(default=0)
    # How often it waited again after it had succeeded: a bank's line was matched wrongly.
    reopened = models.PositiveSmallIntegerField(default=0, db_default=0)
    created_at = models.DateTimeField()
    settled_at = models.DateTimeField(null=True, blank=True)

    objects = OfAccount.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "key"], name="one_payment_per_key"),
            models.UniqueConstraint(fields=["gateway", "gateway_ref"], name="one_payment_per_gateway_ref"),
            # While one is open a second would charge twice; one that failed may still turn out to have succeeded.
            models.UniqueConstraint(
                fields=["invoice"], condition=Q(state__in=LIVE), name="one_open_payment_per_invoice"
            ),
            models.UniqueConstraint(
                fields=["account"], condition=Q(purpose="auto_top_up", state__in=LIVE), name="one_open_auto_top_up"
            ),
            models.CheckConstraint(condition=Q(state__in=[*LIVE, *FINAL]), name="payment_state"),
            models.CheckConstraint(condition=Q(amount=F("subtotal") + F("tax")), name="payment_amount_adds_up"),
            models.CheckConstraint(
                condition=Q(amount__gt=0, subtotal__gt=0, tax__gte=0, credits_ucr__gt=0), name="payment_is_positive"
            ),
            models.CheckConstraint(
                condition=Q(
                    refunded__gte=0,
                    refunding__gte=0,
                    disputed__gte=0,
                    captured__gte=F("refunded") + F("refunding") + F("disputed"),
                ),
                name="payment_refunded_within_captured",
            ),
            models.CheckConstraint(
                condition=Q(state="succeeded", captured=F("amount"), grant__isnull=False)
                | (~Q(state="succeeded") & Q(captured=0, grant=None)),
                name="payment_captured_and_granted_iff_succeeded",
            ),
            models.CheckConstraint(
                condition=Q(state__in=FINAL, settled_at__isnull=False) | Q(state__in=LIVE, settled_at=None),
                name="payment_settled_iff_final",
            ),
            models.CheckConstraint(
                condition=Q(purpose="invoice", invoice__isnull=False) | (~Q(purpose="invoice") & Q(invoice=None)),
                name="payments_of_invoices_name_them",
            ),
        ]
        indexes = [
            models.Index(fields=["account", "-created_at", "-id"], name="payment_newest"),
            models.Index(fields=["ask_at"], condition=Q(ask_at__isnull=False), name="payment_to_ask_about"),
        ]

    def __str__(self) -> str:
        return f"{self.money(self.amount)} {self.currency} ({self.state})"

    @property
    def is_open(self) -> bool:
        return self.state in LIVE

    @property
    def refundable(self) -> int:
        """What is left of it, less what is on its way back or in dispute."""
        return self.captured - self.refunded - self.refunding - self.disputed

    @property
    def grant_key(self) -> str:
        """The ledger's key of what it buys: each success has its own."""
        return f"{self.pk}:{self.reopened}" if self.reopened else str(self.pk)

    def money(self, minor: int) -> str:
        return amounts.money_text(minor, self.currency)


class Refund(models.Model):
    """Money on its way back. The credits are taken first, and given back if the gateway refuses."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="refunds", db_index=False)
    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, related_name="refunds")
    state = models.CharField(max_length=16, choices=REFUND_STATES, default=RefundState.CREATED.value)
    amount = models.BigIntegerField()
    credits_ucr = models.BigIntegerField()
    gateway_ref = models.CharField(max_length=200, blank=True)
    taken = models.OneToOneField(Transaction, on_delete=models.PROTECT, null=True, related_name="refund")
    restored = models.OneToOneField(Grant, on_delete=models.PROTECT, null=True, related_name="refund")
    reason = models.CharField(max_length=300, blank=True)
    failure_code = models.CharField(max_length=60, blank=True)
    failure_message = models.CharField(max_length=300, blank=True)
    key = models.CharField(max_length=300)
    request_hash = models.CharField(max_length=64)
    actor = models.CharField(max_length=80, blank=True)
    request_id = models.CharField(max_length=128, blank=True)
    ask_at = models.DateTimeField(null=True, blank=True)
    asked_times = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField()
    settled_at = models.DateTimeField(null=True, blank=True)

    objects = OfAccount.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["payment", "key"], name="one_refund_per_key"),
            models.CheckConstraint(condition=Q(state__in=[str(each) for each in RefundState]), name="refund_state"),
            models.CheckConstraint(condition=Q(amount__gt=0, credits_ucr__gte=0), name="refund_is_positive"),
            models.CheckConstraint(
                condition=Q(credits_ucr=0, taken=None) | Q(credits_ucr__gt=0, taken__isnull=False),
                name="refund_took_its_credits",
            ),
            models.CheckConstraint(
                condition=Q(restored=None) | Q(state="failed"), name="refund_restored_only_when_failed"
            ),
            models.CheckConstraint(
                condition=Q(state__in=REFUND_LIVE, settled_at=None)
                | (~Q(state__in=REFUND_LIVE) & Q(settled_at__isnull=False)),
                name="refund_settled_iff_final",
            ),
        ]
        indexes = [
            models.Index(fields=["account", "-created_at", "-id"], name="refund_newest"),
            models.Index(fields=["ask_at"], condition=Q(ask_at__isnull=False), name="refund_to_ask_about"),
        ]

    def __str__(self) -> str:
        return f"refund of {self.payment.money(self.amount)} ({self.state})"

    @property
    def currency(self) -> str:
        return self.payment.currency


class GatewayWebhook(models.Model):
    """What somebody sent to a gateway's address, kept before anything is made of it: a failure keeps its evidence.

    invalid: not signed as the gateway signs; received -> processed | failed (tried again); duplicate: seen before
    """

    class State(models.TextChoices):
        INVALID = "invalid"
        RECEIVED = "received"
        PROCESSED = "processed"
        FAILED = "failed"
        DUPLICATE = "duplicate"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    gateway = models.CharField(max_length=20)
    state = models.CharField(max_length=10, choices=State.choices)
    headers = models.JSONField(default=dict)
    body = models.BinaryField()
    event_id = models.CharField(max_length=200, blank=True)
    type = models.CharField(max_length=100, blank=True)
    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, null=True, blank=True, related_name="webhooks")
    error = models.CharField(max_length=500, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    received_at = models.DateTimeField()
    processed_at = models.DateTimeField(null=True, blank=True)
    retry_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["gateway", "event_id"],
                condition=Q(state__in=["received", "processed", "failed"]),
                name="one_webhook_per_event",
            ),
            models.CheckConstraint(
                condition=Q(state="processed", processed_at__isnull=False)
                | (~Q(state="processed") & Q(processed_at=None)),
                name="webhook_processed_has_a_time",
            ),
        ]
        indexes = [
            models.Index(fields=["-received_at", "-id"], name="webhook_newest"),
            models.Index(fields=["retry_at"], condition=Q(retry_at__isnull=False), name="webhook_to_retry"),
        ]

    def __str__(self) -> str:
        return f"{self.type or 'webhook'} of {self.gateway} ({self.state})"


class PaymentEvent(models.Model):
    """One thing that was said of a payment, by whom, and whether it changed anything. Append-only."""

    class Source(models.TextChoices):
        PERSON = "person"
        ANSWER = "answer"
        ASKED = "asked"
        WEBHOOK = "webhook"
        STATEMENT = "statement"
        CLOCK = "clock"

    class Effect(models.TextChoices):
        APPLIED = "applied"
        IGNORED = "ignored"
        NOT_BELIEVED = "not_believed"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, related_name="events")
    refund = models.ForeignKey(Refund, on_delete=models.PROTECT, null=True, blank=True, related_name="events")
    source = models.CharField(max_length=10, choices=Source.choices)
    state = models.CharField(max_length=20)
    effect = models.CharField(max_length=12, choices=Effect.choices)
    detail = models.CharField(max_length=300, blank=True)
    webhook = models.ForeignKey(GatewayWebhook, on_delete=models.PROTECT, null=True, blank=True, related_name="events")
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.source}: {self.state} ({self.effect})"


class AutoTopUp(models.Model):
    """An account's wish to buy credits by itself when few are left."""

    account = models.OneToOneField(Account, on_delete=models.CASCADE, primary_key=True, related_name="auto_top_up")
    threshold_ucr = models.BigIntegerField()
    credits_ucr = models.BigIntegerField()
    method = models.ForeignKey(PaymentMethod, on_delete=models.PROTECT, related_name="auto_top_ups")
    # Whoever buys writes it first, so that two sweeps at once buy once.
    last_bought_at = models.DateTimeField(null=True, blank=True)
    # After a payment that failed.
    paused_until = models.DateTimeField(null=True, blank=True)
    last_error = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(threshold_ucr__gt=0, credits_ucr__gt=0), name="auto_top_up_is_positive")
        ]

    def __str__(self) -> str:
        return f"{amounts.plain(self.credits_ucr)} credits below {amounts.plain(self.threshold_ucr)}"
