"""What a worker's heart tells of the sandboxes: what runs, what was lost, what isolates; and who reads the last."""

from __future__ import annotations

import collections
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet

from sandboxes import engine, leases
from scaling import probes
from scaling.models import Node

WINDOW_SECONDS = 300.0
MOST_KEPT = 1000
# One loss among a handful of attempts does not make a machine sick.
FEWEST = 20

# The word under which scaling keeps, for each node, what its daemon says of its engine.
WORD = "sandboxes"
FACTS = ("engine", "since", "why", "promises", "limits", "languages", "network", "probes", "reasons")
# Told when it changes, and so often to be known as still so.
TELL_SECONDS = 30.0
SILENT_AFTER = timedelta(seconds=4 * TELL_SECONDS)

_ended: collections.deque[tuple[float, bool]] = collections.deque(maxlen=MOST_KEPT)
_lock = threading.Lock()
_last_told: tuple[float, dict[str, Any]] = (0.0, {})


def attempt_ended(*, lost: bool) -> None:
    """An attempt of this process ended; lost is the sandbox's failure, never the program's own."""
    with _lock:
        _ended.append((time.monotonic(), lost))


def error_rate() -> float:
    """The share of this process's attempts of the last minutes whose sandbox was lost."""
    since = time.monotonic() - WINDOW_SECONDS
    with _lock:
        recent = [lost for at, lost in _ended if at >= since]
    return sum(recent) / max(len(recent), FEWEST)


def in_flight() -> int:
    return leases.held_here()


def processes() -> dict[str, int]:
    """The daemon's process id, as far as it was reached lately; the heart asks it nothing itself."""
    process = engine.last_said().get("process")
    return {"sandboxes": process} if process else {}


def told() -> dict[str, dict[str, Any]]:
    """What isolates here, if there is something to tell; the keeper asks the daemon every second."""
    global _last_told
    said = engine.last_said()
    facts = {name: said[name] for name in FACTS if name in said}
    at, before = _last_told
    if not facts or (facts == before and time.monotonic() - at < TELL_SECONDS):
        return {}
    _last_told = time.monotonic(), facts
    return {WORD: facts}


@dataclass(frozen=True)
class NodeEngine:
    """What isolates on one node, as it was last heard."""

    name: str
    said: dict[str, Any]
    seen: datetime | None = None
    is_silent: bool = False
    node: Node | None = None

    @property
    def since(self) -> datetime | None:
        return datetime.fromisoformat(self.said["since"]) if self.said.get("since") else None


def having_told(nodes: QuerySet[Node]) -> QuerySet[Node]:
    """Those whose worker has told of an engine."""
    return nodes.filter(metadata__told__has_key=WORD)


def engine_of(node: Node, *, now: datetime) -> NodeEngine:
    facts = dict(node.metadata["told"][WORD])
    seen = datetime.fromisoformat(facts.pop("seen"))
    return NodeEngine(node.name, engine.NOTHING_SAID | facts, seen, now - seen > SILENT_AFTER, node)


def engines(nodes: QuerySet[Node], *, now: datetime) -> list[NodeEngine]:
    """Each node's; before any worker has told, this machine's own."""
    found = [engine_of(node, now=now) for node in having_told(nodes).order_by("name", "pk")]
    return found or [NodeEngine(probes.node_name(), engine.describe())]
