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

from federation import bus, coordination, history, requests
from federation.api import doors, drafts, serializers
from federation.api.doors import Door
from federation.models import Agent, DeadLetter, Message
from federation.models.traffic import MESSAGE_TYPES, OUTCOMES


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
            OpenApiParameter("agent", OpenApiTypes.UUID, description="Sent by it, or to it alone."),
            OpenApiParameter("correlation_id", str),
            OpenApiParameter("state", str, enum=OUTCOMES),
            OpenApiParameter("q", str, description="Part of the payload's text."),
            *doors.CREATED,
        ],
        responses=serializers.MessageOut(many=True),
    )
    def list(self, request: Request, federation_pk: UUID) -> Response:
        """What was accepted, and what became of it."""
        federation = self.federation(federation_pk)
        history.flush_all(now=timezone.now())
        rows = doors.chosen(Message.objects.filter(federation=federation), request, "type", MESSAGE_TYPES)
        rows = _narrowed(rows, request)
        return Response(self.page(doors.created_between(rows, request), serializers.MessageOut).data)

    @extend_schema(responses={201: serializers.AnsweredOut}, parameters=[doors.WAIT])
    def create(self, request: Request, federation_pk: UUID) -> Response:
        """Send along the topology: to one agent, or (no `to`) to all others.

        With `wait`, hold the answer for the reply: a message back with the same `correlation_id` (else 504).
        """
        wait = doors.seconds(request)
        draft = drafts.draft(self.body(request), self.acting_agent())
        federation = self.federation(federation_pk)
        if wait:
            draft = draft._replace(reply_timeout_seconds=draft.reply_timeout_seconds or wait)
            receipt, item = requests.ask(federation=federation, draft=draft, wait_seconds=wait, clock=timezone.now)
            answer = {**_fields(receipt), "reply": drafts.item_row(item)}
        else:
            receipt = bus.send(federation=federation, draft=draft, now=timezone.now())
            answer = {**_fields(receipt), "reply": None}
        return Response(serializers.AnsweredOut(answer).data, status=status.HTTP_201_CREATED)

    @extend_schema(responses=serializers.AcceptedBatchOut)
    def batch(self, request: Request, federation_pk: UUID) -> Response:
        """Up to 1,000 messages; each is accepted or refused by itself."""
        federation, agent = self.federation(federation_pk), self.acting_agent()
        asked = [self._item(each, agent) for each in self.body(request)["messages"]]
        wanted = [each for each in asked if isinstance(each, bus.Draft)]
        sent = iter(bus.send_many(federation=federation, drafts=wanted, now=timezone.now()))
        answers = [next(sent) if isinstance(each, bus.Draft) else each for each in asked]
        results = [self.problem(each) if isinstance(each, Exception) else drafts.row(each) for each in answers]
        return Response({"results": results})

    @extend_schema(responses=serializers.AccountingOut)
    def accounting(self, request: Request, federation_pk: UUID) -> Response:
        """One for each recipient: accepted = delivered + expired + dead + queued."""
        found = bus.accounting(federation=self.federation(federation_pk), now=timezone.now())
        return Response(serializers.AccountingOut(found).data)

    def _item(self, asked: Any, agent: Agent | None) -> bus.Draft | Exception:
        draft = drafts.plain(asked, agent)
        if draft is not None:
            return draft
        valid = self.each([asked], serializers.MessageIn)[0]
        if isinstance(valid, Exception):
            return valid
        try:
            return drafts.draft(valid, agent)
        except (drafts.NotItself, exceptions.ValidationError) as refused:
            return refused


def _fields(receipt: bus.Receipt) -> dict[str, Any]:
    names = ("id", "path", "hops", "recipients", "expires_at", "correlation_id")
    return {name: getattr(receipt, name) for name in names}


def _narrowed(rows: Any, request: Request) -> Any:
    asked = request.query_params
    for name, column in (("from", "sender"), ("to", "recipient")):
        if name in asked:
            rows = rows.filter(**{column: doors.ident(request, name)})
    if "agent" in asked:
        rows = rows.of_agents([doors.ident(request, "agent")])
    if "correlation_id" in asked:
        rows = rows.filter(correlation_id=doors.text(request, "correlation_id"))
    if "state" in asked:
        rows = rows.in_outcome(doors.one_of(request, "state", OUTCOMES))
    return rows.saying(doors.text(request, "q")) if "q" in asked else rows


class DeadLetterViewSet(Door):
    serializer_class = serializers.DeadLetterOut
    bodies = {"replay": serializers.Nothing, "replay_all": serializers.ReplayAllIn}

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

    @extend_schema(responses=serializers.ReplaysOut)
    def replay_all(self, request: Request, federation_pk: UUID) -> Response:
        """Replay what was not replayed yet, the oldest first, up to 1,000; each for itself."""
        reason = self.body(request).get("reason", "")
        found = coordination.replay_all(federation=self.federation(federation_pk), reason=reason, now=timezone.now())
        return Response(serializers.ReplaysOut(found).data)
