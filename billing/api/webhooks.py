"""`webhook-endpoints` and their deliveries: an owner's acts, or a key's with `account:write`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from billing import roles
from billing.api import acting
from billing.api import webhook_serializers as shapes
from billing.api.serializers import Nothing
from billing.models import WebhookDelivery, WebhookEndpoint
from billing.outgoing import endpoints, event_types, replaying


class EndpointViewSet(acting.BillingViewSet):
    """Addresses that are told of events, signed as the Standard Webhooks say."""

    scope_area = "account"
    secret_fields = ("secret",)
    queryset = WebhookEndpoint.objects.none()
    request_serializers = {
        "create": shapes.EndpointRequest,
        "partial_update": shapes.EndpointChange,
        "rotate": shapes.RotateRequest,
        "replay": shapes.ReplayRequest,
        "test": Nothing,
        "destroy": Nothing,
    }
    query_serializers = {"list": shapes.ListQuery, "deliveries": shapes.DeliveryQuery}

    @extend_schema(parameters=[shapes.ListQuery], responses=shapes.EndpointAnswer(many=True))
    def list(self, request: Request) -> Response:
        rows = WebhookEndpoint.objects.filter(account=acting.account_of(request))
        return self.page(acting.between(rows, self.asked(request)), shapes.EndpointAnswer)

    @extend_schema(request=shapes.EndpointRequest, responses={201: shapes.NewEndpointAnswer})
    def create(self, request: Request) -> Response:
        """Make an endpoint. Its secret is in this answer and cannot be had again."""
        account = acting.account_of(request)
        roles.require_owner(request.user, account)
        made = endpoints.create(account=account, by=request.user, now=timezone.now(), **self.given(request))
        return Response(shapes.NewEndpointAnswer(made).data, status=201)

    @extend_schema(responses=shapes.EndpointAnswer)
    def retrieve(self, request: Request, pk: UUID) -> Response:
        return Response(shapes.EndpointAnswer(self._visible(request, pk)).data)

    @extend_schema(request=shapes.EndpointChange, responses=shapes.EndpointAnswer)
    def partial_update(self, request: Request, pk: UUID) -> Response:
        """Change it, or switch it off and on with `enabled`."""
        endpoint = self._owned(request, pk)
        given = self.given(request)
        enabled = given.pop("enabled", None)
        endpoints.change(endpoint=endpoint, **given)
        if enabled is True and not endpoint.is_on:
            endpoints.switch_on(endpoint=endpoint)
        if enabled is False:
            endpoints.switch_off(endpoint=endpoint, why=WebhookEndpoint.Off.OWNER, now=timezone.now())
        return Response(shapes.EndpointAnswer(endpoint).data)

    @extend_schema(request=None, responses={204: None})
    def destroy(self, request: Request, pk: UUID) -> Response:
        endpoints.remove(endpoint=self._owned(request, pk))
        return Response(status=204)

    @extend_schema(request=shapes.RotateRequest, responses=shapes.NewEndpointAnswer)
    def rotate(self, request: Request, pk: UUID) -> Response:
        """Give it a new secret; for the hours asked for, what is sent carries a signature by each."""
        endpoint = self._owned(request, pk)
        overlap = timedelta(hours=self.given(request)["overlap_hours"])
        return Response(
            shapes.NewEndpointAnswer(endpoints.rotate(endpoint=endpoint, now=timezone.now(), overlap=overlap)).data
        )

    @extend_schema(request=None, responses={201: shapes.DeliveryDetail})
    def test(self, request: Request, pk: UUID) -> Response:
        """Send it an event that says nothing."""
        endpoint = self._owned(request, pk)
        return _answer(endpoints.test(endpoint=endpoint, now=timezone.now()), status=201)

    @extend_schema(request=shapes.ReplayRequest, responses=shapes.ReplayAnswer)
    def replay(self, request: Request, pk: UUID) -> Response:
        """Send again what happened since a moment, as far as it is kept (30 days); ids stay as they were."""
        endpoint = self._owned(request, pk)
        moment = self.given(request)["since"]
        return Response({"events": replaying.since(endpoint=endpoint, moment=moment, now=timezone.now())})

    @extend_schema(parameters=[shapes.DeliveryQuery], responses=shapes.DeliveryAnswer(many=True))
    def deliveries(self, request: Request, pk: UUID) -> Response:
        asked = self.asked(request)
        if "type" in asked:
            asked["event__type"] = asked.pop("type")
        rows = WebhookDelivery.objects.filter(endpoint=self._visible(request, pk)).select_related("event")
        return self.page(acting.between(rows, asked, "state", "event__type"), shapes.DeliveryAnswer)

    def _visible(self, request: Request, pk: UUID) -> WebhookEndpoint:
        found: WebhookEndpoint = get_object_or_404(WebhookEndpoint.objects.visible_to(request.user), pk=pk)
        return found

    def _owned(self, request: Request, pk: UUID) -> WebhookEndpoint:
        endpoint = self._visible(request, pk)
        roles.require_owner(request.user, endpoint.account)
        return endpoint


class DeliveryViewSet(acting.BillingViewSet):
    """An event on its way to one endpoint, with the log of its attempts."""

    scope_area = "account"
    queryset = WebhookDelivery.objects.none()
    request_serializers = {"replay": Nothing}

    @extend_schema(responses=shapes.DeliveryDetail)
    def retrieve(self, request: Request, pk: UUID) -> Response:
        return _answer(_delivery(request, pk))

    @extend_schema(request=None, responses={201: shapes.DeliveryDetail})
    def replay(self, request: Request, pk: UUID) -> Response:
        """Send this event again, under the same id."""
        delivery = _delivery(request, pk)
        roles.require_owner(request.user, delivery.endpoint.account)
        return _answer(replaying.one(delivery=delivery, now=timezone.now()), status=201)


class EventTypeViewSet(acting.BillingViewSet):
    """What there is to hear of."""

    scope_area = "account"
    pagination_class = None
    serializer_class = Nothing

    @extend_schema(responses=shapes.EventTypeList)
    def catalogue(self, request: Request) -> Response:
        """All of them at once, each with an example."""
        said = {"results": event_types.CATALOGUE, "next": None, "previous": None}
        return Response(shapes.EventTypeList(said).data)


def _delivery(request: Request, pk: UUID) -> WebhookDelivery:
    mine = WebhookEndpoint.objects.visible_to(request.user)
    rows = WebhookDelivery.objects.select_related("endpoint__account", "event")
    found: WebhookDelivery = get_object_or_404(rows, pk=pk, endpoint__in=mine)
    return found


def _answer(delivery: WebhookDelivery, status: int = 200) -> Response:
    body: Any = shapes.DeliveryDetail(delivery).data
    return Response(body, status=status)
