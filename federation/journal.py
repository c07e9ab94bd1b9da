"""The one writer of events: what happened to a federation, in words for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from federation import live
from federation.models import Agent, Event, Federation, Task


def record_many(
    federation: Federation,
    kind: Event.Kind,
    said: Sequence[tuple[str, Agent | None, Task | None]],
    *,
    now: datetime,
) -> None:
    """Several of one kind at one time, each with its agent and task; in the order given."""
    live.event_recorded(federation)
    Event.objects.bulk_create(
        [
            Event(federation=federation, kind=kind, text=text[:300], agent=agent, task=task, created_at=now)
            for text, agent, task in said
        ],
        batch_size=1000,
    )


def record(
    federation: Federation,
    kind: Event.Kind,
    text: str,
    *,
    now: datetime,
    agent: Agent | None = None,
    task: Task | None = None,
) -> Event:
    live.event_recorded(federation)
    return Event.objects.create(
        federation=federation, kind=kind, text=text[:300], agent=agent, task=task, created_at=now
    )
