"""What federation remembers, one file per noun."""

from federation.models.dependencies import Dependency
from federation.models.federations import Agent, AgentQuerySet, Event, Federation, FederationQuerySet
from federation.models.handlers import Handler
from federation.models.memory import MemoryEntry, MemoryEntryQuerySet, MemoryNamespace, MemoryVersion
from federation.models.servers import McpServer
from federation.models.sittings import Sitting, SittingQuerySet
from federation.models.tasks import Attempt, AttemptQuerySet, Task, TaskQuerySet
from federation.models.traffic import BusCursor, DeadLetter, DeadLetterQuerySet, Message, MessageQuerySet
from federation.models.wiring import Reading, TopologyVersion

__all__ = [
    "Agent",
    "AgentQuerySet",
    "Attempt",
    "AttemptQuerySet",
    "BusCursor",
    "DeadLetter",
    "DeadLetterQuerySet",
    "Dependency",
    "Event",
    "Federation",
    "FederationQuerySet",
    "Handler",
    "McpServer",
    "MemoryEntry",
    "MemoryEntryQuerySet",
    "MemoryNamespace",
    "MemoryVersion",
    "Message",
    "MessageQuerySet",
    "Reading",
    "Sitting",
    "SittingQuerySet",
    "Task",
    "TaskQuerySet",
    "TopologyVersion",
]
