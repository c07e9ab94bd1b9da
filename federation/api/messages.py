"""Endpoints of messages and dead letters."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import exceptions, status
from rest_framework.request import Request
from rest_framework.response import Response

from federation import bus, coordination, history
from federation.api import doors, serializers
from federation.api.doors import Door
from federation.models import DeadLetter, Message
from federation.models.traffic import MESSAGE_TYPES


class NotItself(Exception):
    """Raised when an agent's token sends as somebody else."""

    code = "missing_scope"

    def __init__(self) -> None:
        super().__init__("An agent's token sends only as that agent.")


class MessageViewSet(Door):
    serializer_class = serializers.MessageOut
    bodies = {"create": serializers.MessageIn, "batch": serializers.MessageBatchIn}
    agent_actions = frozenset({"create", "batch"})

    def get_queryset(self) -> Any:
        return Message.objects.visible_to(self.request.user)

    @extend_schema(
        parameters=[
            OpenApiParameter("type", str, enum=MESSAGE_TYPES),
            OpenApiParameter("from", OpenApiTypes.UUID),
            OpenApiParameter("to", OpenApiTypes.UUID),
            OpenApiParameter("correlation_id", str),
            *doors.CREATED,
        ],
        responses=serializers.MessageOut(many=True),
    )
    def list(self, request: Request, federation_pk: UUID) -> Response:
        """What was accepted, and what became of it."""
        federation = self.federation(federation_pk)
        history.flush_all(now=timezone.now())
        rows = doors.chosen(Message.objects.filter(federation=federation), request, "type", MESSAGE_TYPES)
        for name, column in (("from", "sender"), ("to", "recipient")):
            if name in request.query_params:
                rows = rows.filter(**{column: doors.ident(request, name)})
        if "correlation_id" in request.query_params:
            rows = rows.filter(correlation_id=doors.text(request, "correlation_id"))
        return Response(self.page(doors.created_between(rows, request), serializers.MessageOut).data)

    @extend_schema(responses={201: serializers.ReceiptOut})
    def create(self, request: Request, federation_pk: UUID) -> Response:
        """Send along the topology: to one agent, or (no `to`) to all others."""
        draft = self._draft(self.body(request))
        receipt = bus.send(federation=self.federation(federation_pk), draft=draft, now=timezone.now())
        return Response(serializers.ReceiptOut(receipt).data, status=status.HTTP_201_CREATED)

    @extend_schema(responses=serializers.AcceptedBatchOut)
    def batch(self, request: Request, federation_pk: UUID) -> Response:
        """Up to 1,000 messages; each is accepted or refused by itself."""
        federation = self.federation(federation_pk)
        asked = [self._item(each) for each in self.each(self.body(request)["messages"], serializers.MessageIn)]
        drafts = [each for each in asked if isinstance(each, bus.Draft)]
        sent = iter(bus.send_many(federation=federation, drafts=drafts, now=timezone.now()))
        answers = [next(sent) if isinstance(each, bus.Draft) else each for each in asked]
        results = [
            self.problem(each) if isinstance(each, Exception) else serializers.ReceiptOut(each).data for each in answers
        ]
        return Response({"results": results})

    @extend_schema(responses=serializers.AccountingOut)
    def accounting(self, request: Request, federation_pk: UUID) -> Response:
        """One for each recipient: accepted = delivered + expired + dead + queued."""
        found = bus.accounting(federation=self.federation(federation_pk), now=timezone.now())
        return Response(serializers.AccountingOut(found).data)

    def _item(self, asked: dict[str, Any] | Exception) -> bus.Draft | Exception:
        if isinstance(asked, Exception):
            return asked
        try:
            return self._draft(asked)
        except (NotItself, exceptions.ValidationError) as refused:
            return refused

    def _draft(self, asked: dict[str, Any]) -> bus.Draft:
        agent = self.acting_agent()
        if agent is None and "sender" not in asked:
            raise exceptions.ValidationError({"from": ["This field is required."]})
        if agent is not None and asked.setdefault("sender", agent.pk) != agent.pk:
            raise NotItself
        return bus.Draft(**{"recipient": None, **asked})


class DeadLetterViewSet(Door):
    serializer_class = serializers.DeadLetterOut
    bodies = {"replay": serializers.Nothing}

    def get_queryset(self) -> Any:
        return DeadLetter.objects.visible_to(self.request.user)

    @extend_schema(
        parameters=[OpenApiParameter("reason", str, enum=DeadLetter.Reason.values), *doors.CREATED],
        responses=serializers.DeadLetterOut(many=True),
    )
    def list(self, request: Request, federation_pk: UUID) -> Response:
        """Messages that reached nobody and tasks no attempt could finish."""
        federation = self.federation(federation_pk)
        history.flush_all(now=timezone.now())
        rows = DeadLetter.objects.filter(federation=federation)
        rows = doors.chosen(rows, request, "reason", DeadLetter.Reason.values)
        return Response(self.page(doors.created_between(rows, request), serializers.DeadLetterOut).data)

    @extend_schema(request=None, responses=serializers.ReplayOut)
    def replay(self, request: Request, pk: UUID) -> Response:
        """Queue the task afresh, or send the message again; once."""
        letter = get_object_or_404(self._doors(DeadLetter.objects).select_related("federation", "task"), pk=pk)
        found = coordination.replay(letter=letter, now=timezone.now())
        return Response({"kind": letter.kind, "id": str(found)})
