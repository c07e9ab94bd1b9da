"""What we know of Stripe: which page (Checkout) is for which payment or card, and who an account is there."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from uuid_utils.compat import uuid7

from billing.models.customers import Account
from billing.models.ledger import OfAccount
from billing.models.payments import PaymentMethod


class StripeSession(models.Model):
    """A page that was asked for; its names are noted as Stripe says them, and stay."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # The payment's id, and the key it was asked for with.
    reference = models.CharField(max_length=200, unique=True)
    # What was asked, to ask the same again when the answer was lost.
    params = models.JSONField()
    amount = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    session_id = models.CharField(max_length=200, null=True, blank=True, unique=True)  # noqa: DJ001 - unique
    payment_intent = models.CharField(max_length=200, null=True, blank=True, unique=True)  # noqa: DJ001 - unique
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(amount__gt=0), name="stripe_session_is_positive")]

    def __str__(self) -> str:
        return self.session_id or f"page for {self.reference}"


class StripeCustomer(models.Model):
    """Who an account is at Stripe: its cards are kept there under this name, for good."""

    account = models.OneToOneField(Account, on_delete=models.PROTECT, primary_key=True, related_name="stripe_customer")
    customer_id = models.CharField(max_length=100, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.customer_id


class CardSetup(models.Model):
    """A page of Stripe's on which a customer gives a card to keep.

    created (asked for) -> open (the customer may go there) -> kept | closed (no card was given)
    """

    class State(models.TextChoices):
        CREATED = "created"
        OPEN = "open"
        KEPT = "kept"
        CLOSED = "closed"

    ENDED = ("kept", "closed")
    # Also the key it was asked for with.
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="card_setups", db_index=False)
    state = models.CharField(max_length=8, choices=State.choices, default=State.CREATED)
    # What was asked, to ask the same again when the answer was lost; nothing before the customer is known.
    params = models.JSONField(null=True, blank=True)
    session_id = models.CharField(max_length=200, null=True, blank=True, unique=True)  # noqa: DJ001 - unique
    action_url = models.CharField(max_length=2000, blank=True)
    # How the card is to be kept.
    label = models.CharField(max_length=80, blank=True)
    is_default = models.BooleanField(default=False)
    method = models.OneToOneField(
        PaymentMethod, on_delete=models.PROTECT, null=True, blank=True, related_name="card_setup"
    )
    failure_message = models.CharField(max_length=300, blank=True)
    key = models.CharField(max_length=300)
    request_hash = models.CharField(max_length=64)
    actor = models.CharField(max_length=80, blank=True)
    request_id = models.CharField(max_length=128, blank=True)
    # When Stripe is asked next, while it has not ended.
    ask_at = models.DateTimeField(null=True, blank=True)
    asked_times = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = OfAccount.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "key"], name="one_card_setup_per_key"),
            models.CheckConstraint(
                condition=Q(state__in=["created", "open", "kept", "closed"]), name="card_setup_state"
            ),
            models.CheckConstraint(
                condition=Q(state="kept", method__isnull=False) | (~Q(state="kept") & Q(method=None)),
                name="card_setup_has_its_method_iff_kept",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["kept", "closed"], ended_at__isnull=False, ask_at=None)
                | Q(state__in=["created", "open"], ended_at=None, ask_at__isnull=False),
                name="card_setup_is_asked_about_until_it_ends",
            ),
            models.CheckConstraint(
                condition=Q(state="created") | Q(state="closed") | Q(session_id__isnull=False),
                name="card_setup_has_its_page",
            ),
        ]
        indexes = [
            models.Index(fields=["account", "-created_at", "-id"], name="card_setup_newest"),
            models.Index(fields=["ask_at"], condition=Q(ask_at__isnull=False), name="card_setup_to_ask_about"),
        ]

    def __str__(self) -> str:
        return f"page for a card ({self.state})"

    @property
    def has_ended(self) -> bool:
        return self.state in self.ENDED
