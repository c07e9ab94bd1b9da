"""What we know of Stripe's pages (Checkout): which payment each is for."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from uuid_utils.compat import uuid7


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
