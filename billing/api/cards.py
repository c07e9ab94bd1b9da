"""`card-setups`: pages of Stripe's on which a card is given to be kept."""

from __future__ import annotations

from uuid import UUID

from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from billing import card_setups, roles
from billing.api import acting
from billing.api import payment_serializers as shapes
from billing.models import CardSetup


class CardSetupViewSet(acting.BillingViewSet):
    """created -> open: send the cardholder to `action_url` -> kept: `payment_method` | closed: no card was given."""

    queryset = CardSetup.objects.none()
    request_serializers = {"create": shapes.CardSetupRequest}
    query_serializers = {"list": shapes.CardSetupQuery}

    @extend_schema(parameters=[shapes.CardSetupQuery], responses=shapes.CardSetupAnswer(many=True))
    def list(self, request: Request) -> Response:
        rows = CardSetup.objects.filter(account=acting.account_of(request))
        return self.page(acting.between(rows, self.asked(request), "state"), shapes.CardSetupAnswer)

    @extend_schema(request=shapes.CardSetupRequest, responses={201: shapes.CardSetupAnswer})
    def create(self, request: Request) -> Response:
        """Ask for a page to give a card on. `created` has no address yet: look again in a few seconds."""
        account = acting.account_of(request)
        roles.require_payer(request.user, account)
        made = card_setups.open_setup(
            account=account,
            key=acting.act_key(request),
            now=timezone.now(),
            actor=acting.actor(request),
            request_id=acting.request_id(request),
            **self.given(request),
        )
        return Response(shapes.CardSetupAnswer(made).data, status=201)

    @extend_schema(responses=shapes.CardSetupAnswer)
    def retrieve(self, request: Request, pk: UUID) -> Response:
        found = get_object_or_404(CardSetup.objects.visible_to(request.user), pk=pk)
        return Response(shapes.CardSetupAnswer(found).data)
