"""Federations, their agents, and what happened to them.

An agent's status is told from what is stored, so that it cannot drift: lost or unavailable as recorded,
else busy while an attempt of it is live, else idle.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Count, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone
from uuid_utils.compat import uuid7

from billing.models import Account
from federation.assignment import STRATEGIES
from federation.topology import FIXED, SHAPES, Topology, effective


def default_topology() -> str:
    return str(settings.TOPOLOGY)


def default_max_agents() -> int:
    return int(settings.MAX_AGENTS)


class FederationQuerySet(models.QuerySet["Federation"]):
    def present(self) -> FederationQuerySet:
        return self.filter(deleted_at=None)

    def visible_to(self, principal: Any) -> FederationQuerySet:
        return self.present().filter(account__in=Account.objects.visible_to(principal))

    def editable_by(self, principal: Any) -> FederationQuerySet:
        return self.present().filter(account__in=Account.objects.editable_by(principal))


class Federation(models.Model):
    """A group of agents with one topology. Its leader holds a lease; every change of leader is a new epoch."""

    class TopologyKind(models.TextChoices):
        MESH = "mesh"
        RING = "ring"
        STAR = "star"
        HIERARCHICAL = "hierarchical"
        ADAPTIVE = "adaptive"

    class Strategy(models.TextChoices):
        ROUND_ROBIN = "round_robin"
        LEAST_LOADED = "least_loaded"
        CAPABILITY_MATCH = "capability_match"
        RANDOM = "random"
        PRIORITY = "priority"

    class Delivery(models.TextChoices):
        LOGICAL = "logical"
        RELAYED = "relayed"

    # How far a message is relayed where the federation sets no limit of its own.
    RELAYED_MAX_HOPS = 5

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="federations")
    name = models.CharField(max_length=120)
    topology = models.CharField(max_length=12, choices=TopologyKind.choices, default=default_topology)
    # What an adaptive topology measured best; empty until then.
    adapted = models.CharField(max_length=12, blank=True)
    strategy = models.CharField(max_length=16, choices=Strategy.choices, default=Strategy.ROUND_ROBIN)
    max_agents = models.PositiveIntegerField(default=default_max_agents)
    fan_out = models.PositiveSmallIntegerField(default=4)
    delivery = models.CharField(max_length=8, choices=Delivery.choices, default=Delivery.LOGICAL)
    max_hops = models.PositiveSmallIntegerField(default=0)
    lease_seconds = models.PositiveIntegerField(default=30)
    ageing_seconds = models.PositiveIntegerField(default=60)
    redelivery_seconds = models.PositiveIntegerField(default=30)
    inbox_limit = models.PositiveIntegerField(default=10_000)
    heartbeat_seconds = models.PositiveSmallIntegerField(default=10)
    agent_timeout_seconds = models.PositiveSmallIntegerField(default=60)
    region = models.CharField(max_length=60, blank=True)
    topology_version = models.PositiveIntegerField(default=1)
    leader = models.ForeignKey("Agent", on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    leader_lease_expires_at = models.DateTimeField(null=True, blank=True)
    epoch = models.PositiveIntegerField(default=0)
    next_position = models.PositiveIntegerField(default=1)
    rotation = models.PositiveIntegerField(default=0)
    # Which part of the sample this is, so that loading the sample again adds nothing.
    sample = models.CharField(max_length=40, blank=True)
    version = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField(default=timezone.now)
    deleted_at = models.DateTimeField(null=True, blank=True)

    objects = FederationQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(topology__in=SHAPES), name="federation_topology"),
            models.CheckConstraint(
                condition=Q(adapted="") | Q(adapted__in=FIXED, topology="adaptive"),
                name="only_adaptive_federations_adapt",
            ),
            models.CheckConstraint(condition=Q(strategy__in=STRATEGIES), name="federation_strategy"),
            models.CheckConstraint(condition=Q(delivery__in=["logical", "relayed"]), name="federation_delivery"),
            models.CheckConstraint(condition=Q(max_agents__gte=1, max_agents__lte=2000), name="federation_max_agents"),
            models.CheckConstraint(condition=Q(fan_out__gte=2, fan_out__lte=64), name="federation_fan_out"),
            models.CheckConstraint(
                condition=Q(lease_seconds__gte=2, lease_seconds__lte=3600), name="federation_lease_seconds"
            ),
            models.CheckConstraint(condition=Q(ageing_seconds__gte=1), name="federation_ageing_seconds"),
            models.CheckConstraint(condition=Q(redelivery_seconds__gte=1), name="federation_redelivery_seconds"),
            models.CheckConstraint(condition=Q(inbox_limit__gte=1), name="federation_inbox_limit"),
            models.CheckConstraint(
                condition=Q(heartbeat_seconds__gte=1, heartbeat_seconds__lte=300), name="federation_heartbeat_seconds"
            ),
            models.CheckConstraint(
                condition=Q(agent_timeout_seconds__gte=2, agent_timeout_seconds__lte=3600),
                name="federation_agent_timeout_seconds",
            ),
            models.CheckConstraint(
                condition=Q(agent_timeout_seconds__gt=models.F("heartbeat_seconds")),
                name="an_agent_may_be_silent_between_heartbeats",
            ),
            models.CheckConstraint(
                condition=Q(leader=None) | Q(leader_lease_expires_at__isnull=False),
                name="federation_leader_has_a_lease",
            ),
            models.UniqueConstraint(
                fields=["account", "sample"],
                condition=~Q(sample="") & Q(deleted_at=None),
                name="one_federation_per_part_of_the_sample",
            ),
        ]
        indexes = [models.Index(fields=["account", "-created_at", "-id"], name="federations_newest_first")]

    def __str__(self) -> str:
        return self.name

    @property
    def leader_lease(self) -> timedelta:
        """Two missed heartbeats end a leadership, long before the agent counts as lost."""
        return timedelta(seconds=min(2 * self.heartbeat_seconds, self.agent_timeout_seconds))

    @property
    def is_relayed(self) -> bool:
        return self.delivery == Federation.Delivery.RELAYED

    @property
    def hop_limit(self) -> int:
        """Over how many links a message may go; 0 is no limit."""
        return self.max_hops or (self.RELAYED_MAX_HOPS if self.is_relayed else 0)

    def effective_topology(self, size: int) -> str:
        """The shape in force with so many linked members."""
        return effective(self.topology, size, self.adapted)

    def shaped(self, agents: list[Agent]) -> Topology[UUID]:
        """The topology over these agents' ids: the leader first, then in joining order."""
        ordered = sorted(agents, key=lambda agent: (agent.pk != self.leader_id, agent.position))
        return self.over([agent.pk for agent in ordered])

    def over(self, members: list[UUID]) -> Topology[UUID]:
        """The topology over these members, the leader first."""
        return Topology(self.effective_topology(len(members)), members, fan_out=self.fan_out)


class AgentQuerySet(models.QuerySet["Agent"]):
    def visible_to(self, principal: Any) -> AgentQuerySet:
        return self.filter(federation__in=Federation.objects.visible_to(principal))

    def editable_by(self, principal: Any) -> AgentQuerySet:
        return self.filter(federation__in=Federation.objects.editable_by(principal))

    def members(self) -> AgentQuerySet:
        """Everyone listed: those that did not leave."""
        return self.filter(left_at=None)

    def linked(self) -> AgentQuerySet:
        """Who is part of the topology: members that are not lost."""
        return self.members().exclude(availability=Agent.Availability.LOST)

    def available(self) -> AgentQuerySet:
        return self.members().filter(availability=Agent.Availability.AVAILABLE)

    def taking_work(self) -> AgentQuerySet:
        return self.available().filter(drain=Agent.Drain.NO)

    def with_running(self) -> AgentQuerySet:
        """Adds `running`: how many attempts of it are live. Ended ones are not looked at, however many."""
        attempts = self.model._meta.get_field("attempts").related_model.objects
        live = attempts.filter(agent=OuterRef("pk"), state__in=("assigned", "running")).order_by()
        counted = live.values("agent").annotate(n=Count("pk")).values("n")
        return self.annotate(running=Coalesce(Subquery(counted), 0))

    def in_status(self, status: str) -> AgentQuerySet:
        """Needs `with_running`."""
        if status in ("lost", "unavailable"):
            return self.filter(availability=status)
        if status == "draining":
            return self.linked().exclude(drain=Agent.Drain.NO)
        available = self.filter(availability=Agent.Availability.AVAILABLE)
        return available.filter(running__gt=0) if status == "busy" else available.filter(running=0)


class Agent(models.Model):
    """A member. The product's workers run managed agents in sandboxes, and call the tools of those that are MCP
    servers; remote ones are run by their owner."""

    class Runtime(models.TextChoices):
        MANAGED = "managed"
        REMOTE = "remote"
        MCP = "mcp"

    class Availability(models.TextChoices):
        AVAILABLE = "available"
        UNAVAILABLE = "unavailable"
        LOST = "lost"

    class Drain(models.TextChoices):
        """Draining: it takes no new work and finishes what it has."""

        NO = "", "no"
        STAY = "stay"
        LEAVE = "leave"  # as soon as it has finished

    class Connection(models.TextChoices):
        REST = "rest"
        WEBSOCKET = "websocket"

    # Whom our workers work for: they beat for them and start their tasks.
    OURS = (Runtime.MANAGED, Runtime.MCP)
    STATUSES = ("idle", "busy", "unavailable", "lost")
    MARKS = (*STATUSES, "draining")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    federation = models.ForeignKey(Federation, on_delete=models.CASCADE, related_name="agents")
    name = models.CharField(max_length=120)
    type = models.CharField(max_length=60, blank=True)
    runtime = models.CharField(max_length=10, choices=Runtime.choices, default=Runtime.MANAGED)
    position = models.PositiveIntegerField()
    capabilities = ArrayField(models.CharField(max_length=60), default=list, blank=True)
    weight = models.PositiveIntegerField(default=1)
    max_concurrent_tasks = models.PositiveSmallIntegerField(default=5)
    public_key = models.CharField(max_length=64, blank=True)
    region = models.CharField(max_length=60, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    availability = models.CharField(max_length=12, choices=Availability.choices, default=Availability.AVAILABLE)
    drain = models.CharField(max_length=6, choices=Drain.choices, default=Drain.NO, blank=True)
    reported_load = models.FloatField(null=True, blank=True)
    token_digest = models.CharField(max_length=64, null=True, blank=True, unique=True)
    # The version in force of a managed agent's own code.
    handler = models.ForeignKey("Handler", on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    # How a remote agent last said hello; empty until it did.
    connection = models.CharField(max_length=10, choices=Connection.choices, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    last_heartbeat_at = models.DateTimeField()
    # When a lease of it ran out last.
    doubted_at = models.DateTimeField(null=True, blank=True)
    left_at = models.DateTimeField(null=True, blank=True)

    objects = AgentQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["federation", "position"], name="one_agent_per_position"),
            models.CheckConstraint(condition=Q(runtime__in=["managed", "remote", "mcp"]), name="agent_runtime"),
            models.CheckConstraint(
                condition=Q(availability__in=["available", "unavailable", "lost"]), name="agent_availability"
            ),
            models.CheckConstraint(condition=Q(drain__in=["", "stay", "leave"]), name="agent_drain"),
            models.CheckConstraint(
                condition=Q(max_concurrent_tasks__gte=1, max_concurrent_tasks__lte=1000), name="agent_has_capacity"
            ),
            models.CheckConstraint(
                condition=Q(reported_load=None) | Q(reported_load__gte=0, reported_load__lte=1),
                name="agent_load_is_a_share",
            ),
            models.CheckConstraint(
                condition=Q(runtime="remote") | Q(token_digest=None), name="only_remote_agents_have_tokens"
            ),
            models.CheckConstraint(
                condition=Q(runtime="managed") | Q(handler=None), name="only_managed_agents_have_handlers"
            ),
            models.CheckConstraint(
                condition=Q(runtime="remote", connection__in=["", "rest", "websocket"]) | Q(connection=""),
                name="only_remote_agents_connect",
            ),
        ]
        indexes = [
            models.Index(fields=["federation", "-created_at", "-id"], name="agents_newest_first"),
            # Without the time of the last heartbeat, so that a heartbeat writes one row and no index.
            models.Index(
                fields=["federation", "position"],
                condition=Q(left_at=None) & ~Q(availability="lost"),
                name="agents_linked",
            ),
            models.Index(fields=["federation"], condition=Q(drain="leave", left_at=None), name="agents_about_to_leave"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def status(self) -> str:
        """One of STATUSES; needs `with_running`."""
        if self.availability != Agent.Availability.AVAILABLE:
            return self.availability
        return "busy" if self.running else "idle"

    @property
    def is_draining(self) -> bool:
        return self.drain != Agent.Drain.NO

    @property
    def mark(self) -> str:
        """One word for a chip or a drawing: its status, unless it drains; needs `with_running`."""
        return "draining" if self.is_draining and self.availability != Agent.Availability.LOST else self.status

    @property
    def load(self) -> float:
        """What it reports, else the share of its capacity in use; needs `with_running`."""
        if self.reported_load is not None:
            return self.reported_load
        return round(min(self.running / self.max_concurrent_tasks, 1.0), 3)


class Event(models.Model):
    """Something that happened to a federation, for people: who joined, was lost, was elected, what was re-wired."""

    class Kind(models.TextChoices):
        CREATED = "created"
        CHANGED = "changed"
        REWIRED = "rewired"
        JOINED = "joined"
        DRAINING = "draining"
        LEFT = "left"
        LOST = "lost"
        RETURNED = "returned"
        ELECTED = "elected"
        LEADERLESS = "leaderless"
        REASSIGNED = "reassigned"
        DEAD = "dead"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    federation = models.ForeignKey(Federation, on_delete=models.CASCADE, related_name="events")
    kind = models.CharField(max_length=12, choices=Kind.choices)
    text = models.CharField(max_length=300)
    agent = models.ForeignKey(Agent, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    task = models.ForeignKey("Task", on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    kind__in=[
                        "created",
                        "changed",
                        "rewired",
                        "joined",
                        "draining",
                        "left",
                        "lost",
                        "returned",
                        "elected",
                        "leaderless",
                        "reassigned",
                        "dead",
                    ]
                ),
                name="event_kind",
            )
        ]
        indexes = [models.Index(fields=["federation", "-created_at", "-id"], name="events_newest_first")]

    def __str__(self) -> str:
        return self.text
