"""What federation remembers, one file per noun."""

from federation.models.federations import Agent, AgentQuerySet, Event, Federation, FederationQuerySet
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
    "Event",
    "Federation",
    "FederationQuerySet",
    "Message",
    "MessageQuerySet",
    "Reading",
    "Task",
    "TaskQuerySet",
    "TopologyVersion",
]
