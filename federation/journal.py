"""The one writer of events: what happened to a federation, in words for people."""

from __future__ import annotations

from datetime import datetime

from federation import live
from federation.models import Agent, Event, Federation, Task


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
