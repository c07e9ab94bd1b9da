"""Endpoints of agents: members listed and changed; and the doors of remote ones."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import Prefetch
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import exceptions, status
from rest_framework.request import Request
from rest_framework.response import Response

from federation import agents, bus, coordination, remote
from federation.api import doors, drafts, runtime_shapes, serializers, shapes
from federation.api.doors import Door
from federation.beats import Beat
from federation.models import Agent, Attempt, Handler, Task

MOST_ITEMS = 1000
WHEN_DONE = OpenApiParameter(
    "when_done", bool, description="true: it drains first, and leaves when it has finished what it runs"
)
HANDLERS = Prefetch("handler", Handler.objects.defer("code"))


class AgentViewSet(Door):
    serializer_class = serializers.AgentOut
    bodies = {
        "create": serializers.AgentIn,
        "partial_update": serializers.AgentChange,
        "hello": serializers.HelloIn,
        "heartbeat": serializers.HeartbeatIn,
        "heartbeats": serializers.HeartbeatBatchIn,
        "rotate": serializers.Nothing,
        "read_tools": serializers.Nothing,
        "claim": serializers.Nothing,
        "acknowledge": serializers.AcknowledgeIn,
    }
    agent_actions = frozenset({"retrieve", "destroy", "hello", "heartbeat", "rotate", "claim", "inbox", "acknowledge"})
    secret_fields = ("token",)

    def get_queryset(self) -> Any:
        rows = Agent.objects.visible_to(self.request.user).members().with_running()
        return rows.select_related("mcp").defer("mcp__files").prefetch_related(HANDLERS)

    @extend_schema(
        parameters=[
            OpenApiParameter("status", str, enum=Agent.MARKS),
            OpenApiParameter("runtime", str, enum=Agent.Runtime.values),
            OpenApiParameter("capability", str),
            OpenApiParameter("name", str, description="Part of the name."),
            *doors.CREATED,
        ],
        responses=serializers.AgentOut(many=True),
    )
    def list(self, request: Request, federation_pk: UUID) -> Response:
        rows = self.get_queryset().filter(federation=self.federation(federation_pk))
        rows = doors.chosen(rows, request, "runtime", Agent.Runtime.values)
        if "status" in request.query_params:
            rows = rows.in_status(_status(request))
        if "capability" in request.query_params:
            rows = rows.filter(capabilities__contains=[doors.text(request, "capability")])
        if "name" in request.query_params:
            rows = rows.filter(name__icontains=doors.text(request, "name"))
        return Response(self.page(doors.created_between(rows, request), serializers.AgentOut).data)

    @extend_schema(responses={201: serializers.NewAgentOut})
    def create(self, request: Request, federation_pk: UUID) -> Response:
        """Take on a member. A remote one's `token` is in this answer only."""
        agent, token = coordination.add_agent(
            federation=self.federation(federation_pk), by=request.user, now=timezone.now(), **self.body(request)
        )
        row = Agent.objects.with_running().get(pk=agent.pk)
        row.token = token
        return Response(serializers.NewAgentOut(row).data, status=status.HTTP_201_CREATED)

    @extend_schema(responses=serializers.AgentOut)
    def retrieve(self, request: Request, pk: UUID) -> Response:
        return Response(serializers.AgentOut(self.agent(pk)).data)

    @extend_schema(responses=serializers.AgentOut)
    def partial_update(self, request: Request, pk: UUID) -> Response:
        agent = coordination.change_agent(
            agent=self.agent(pk), by=request.user, now=timezone.now(), **self.body(request)
        )
        return Response(serializers.AgentOut(agent).data)

    @extend_schema(request=None, responses={204: None}, parameters=[WHEN_DONE])
    def destroy(self, request: Request, pk: UUID) -> Response:
        """It leaves: its tasks go to others, its token ends."""
        when_done = doors.flag(request, "when_done")
        coordination.remove_agent(agent=self.agent(pk), by=request.user, now=timezone.now(), when_done=when_done)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(responses=runtime_shapes.HandlerVersionOut(many=True))
    def handlers(self, request: Request, pk: UUID) -> Response:
        """Every version of its handler, newest first."""
        return Response(self.page(self.agent(pk).handlers.all(), runtime_shapes.HandlerVersionOut).data)

    @extend_schema(request=None, responses={202: serializers.AgentOut})
    def read_tools(self, request: Request, pk: UUID) -> Response:
        """Ask its MCP server for its tools now; they show when it has answered."""
        agent = self.agent(pk)
        coordination.read_tools(agent=agent, now=timezone.now())
        return Response(serializers.AgentOut(agent).data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(responses=shapes.HelloOut)
    def hello(self, request: Request, pk: UUID) -> Response:
        """Begin, or go on after a broken connection: what it must keep to, and every task it has under way."""
        asked = self.body(request)
        welcome = remote.hello(agent=self._present(pk), connection=asked.get("connection", "rest"), now=timezone.now())
        agent = Agent.objects.with_running().select_related("federation").get(pk=pk)
        running = [_claimed(attempt) for attempt in welcome]
        return Response(shapes.HelloOut({"agent": agent, "running": running, **_terms(agent)}).data)

    @extend_schema(request=None, responses=serializers.TokenOut)
    def rotate(self, request: Request, pk: UUID) -> Response:
        """A new token, in this answer only; the old one ends with it."""
        token = agents.rotate_token(agent=self._present(pk), now=timezone.now())
        return Response(serializers.TokenOut({"token": token}).data)

    @extend_schema(responses=serializers.HeartbeatOut)
    def heartbeat(self, request: Request, pk: UUID) -> Response:
        """A sign of life. Lists what it runs, which renews those leases; learns what to stop."""
        asked = self.body(request)
        reply = remote.heartbeat(
            agent=self._present(pk),
            status=asked.get("status", "idle"),
            load=asked.get("load"),
            running=asked.get("running", []),
            now=timezone.now(),
        )
        return Response(serializers.HeartbeatOut(reply).data)

    @extend_schema(responses=serializers.HeartbeatBatchOut)
    def heartbeats(self, request: Request, federation_pk: UUID) -> Response:
        """Signs of life of many agents on one machine; each is answered as it would be alone."""
        federation = self.federation(federation_pk)
        asked = self.each(self.body(request)["heartbeats"], serializers.HeartbeatOfIn)
        ours = set(Agent.objects.filter(federation=federation).values_list("pk", flat=True))
        asked = [
            exceptions.NotFound() if isinstance(each, dict) and each["agent"] not in ours else each for each in asked
        ]
        beats = [_beat(each) for each in asked if isinstance(each, dict)]
        replies = iter(remote.heartbeat_many(beats=beats, now=timezone.now()))
        answers = [next(replies) if isinstance(each, dict) else each for each in asked]
        shown = serializers.HeartbeatOut()
        results = [
            self.problem(answer) if isinstance(answer, Exception) else shown.to_representation(answer)
            for answer in answers
        ]
        return Response({"results": results})

    @extend_schema(responses={200: shapes.ClaimOut, 204: None}, parameters=[doors.WAIT], request=None)
    def claim(self, request: Request, pk: UUID) -> Response:
        """The agent's next task, with the epoch that every write about it must carry; 204 when none came."""
        wait = doors.seconds(request)
        attempt = remote.claim(agent=self._present(pk), wait_seconds=wait, clock=timezone.now)
        if attempt is None:
            return Response(status=status.HTTP_204_NO_CONTENT)
        return Response(shapes.ClaimOut(_claimed(attempt)).data)

    @extend_schema(
        responses=serializers.InboxOut,
        parameters=[doors.WAIT, OpenApiParameter("max", {"type": "integer", "minimum": 1, "maximum": MOST_ITEMS})],
    )
    def inbox(self, request: Request, pk: UUID) -> Response:
        """What waits, at least once: whatever is not acknowledged in time comes again."""
        wait, most = doors.seconds(request), doors.count(request, "max", default=100, most=MOST_ITEMS)
        items = bus.receive(agent=self._present(pk), most=most, wait_seconds=wait, clock=timezone.now)
        return Response(serializers.InboxOut({"results": [drafts.item_row(item) for item in items]}).data)

    @extend_schema(responses=serializers.AcknowledgeOut)
    def acknowledge(self, request: Request, pk: UUID) -> Response:
        done = bus.acknowledge(agent=self._present(pk), message_ids=self.body(request)["ids"], now=timezone.now())
        return Response({"acknowledged": done})

    def _present(self, pk: UUID) -> Agent:
        """A member that is not lost."""
        agent = self.agent(pk)
        if agent.availability == Agent.Availability.LOST:
            raise agents.Gone
        return agent


def _claimed(attempt: Attempt) -> dict[str, Any]:
    return {"task": full(attempt.task_id), "epoch": attempt.epoch, "lease_expires_at": attempt.lease_expires_at}


def _terms(agent: Agent) -> dict[str, Any]:
    names = ("heartbeat_seconds", "agent_timeout_seconds", "lease_seconds", "redelivery_seconds")
    return {name: getattr(agent.federation, name) for name in (*names, "topology_version", "epoch")}


def full(task_id: UUID) -> Task:
    """A task with what its answer shows."""
    shown = Prefetch(
        "attempts", Attempt.objects.select_related("execution").defer("execution__code", "execution__files")
    )
    return Task.objects.prefetch_related(shown, "dependencies").get(pk=task_id)


def _beat(asked: dict[str, Any]) -> Beat:
    return Beat(asked["agent"], asked.get("status", "idle"), asked.get("load"), asked.get("running", []))


def _status(request: Request) -> str:
    value = request.query_params["status"]
    if value not in Agent.MARKS:
        raise exceptions.ValidationError({"status": [f"Give one of {', '.join(Agent.MARKS)}."]})
    return str(value)
