"""Tasks as asked for become rows: each accepted or refused by itself, those that need others linked to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from billing.keys import KeyPrincipal
from federation import dependencies, predictions, sequence, workloads
from federation.models import Agent, Federation, Task

MOST_NEEDED = 50


class NoAgents(Exception):
    """Raised when work is given to a federation without agents and the caller did not ask to queue it."""

    code = "no_agents"

    def __init__(self) -> None:
        super().__init__("The federation has no agents. Add one, or submit with queue_if_empty.")


class BadOrder(Exception):
    """Raised for a task that cannot be made as asked; `errors` names the field."""

    code = "validation_error"

    def __init__(self, name: str, sentence: str) -> None:
        super().__init__(sentence)
        self.extras = {"errors": {name: [sentence]}}


@dataclass(frozen=True, slots=True)
class Order:
    """One task as asked for. `depends_on` names tasks of the federation by id; in a batch also items of it, by their
    place (a number, from 0) or their `key`."""

    type: str
    payload: Any = field(default_factory=dict)
    priority: int = 5
    required_capabilities: Sequence[str] = ()
    deadline: datetime | None = None
    max_attempts: int = 3
    strategy: str = ""
    queue_if_empty: bool = False
    depends_on: Sequence[UUID | int | str] = ()
    key: str = ""


def make(
    *, federation: Federation, orders: Sequence[Order | Exception], by: Any, now: datetime
) -> list[Task | Exception]:
    """Write the tasks, inside the caller's transaction; the answers are in the order asked.

    An order may be an exception already: an item of a batch that was refused, to which others may point.
    """
    has_agents = Agent.objects.linked().filter(federation=federation).exists()
    good = {place: order for place, order in enumerate(orders) if isinstance(order, Order)}
    refused = {place: order for place, order in enumerate(orders) if isinstance(order, Exception)}
    known = _Known(federation, good, size=len(orders))
    asked = (order.payload for order in good.values() if order.type == workloads.INFER)
    models = predictions.models_of(federation.pk, asked)
    for place, order in good.items():
        fault = _fault(order, has_agents, now) or known.fault(place) or _model_fault(order, models)
        if fault is not None:
            refused[place] = fault
    key = by.pk if isinstance(by, KeyPrincipal) else None
    batch = _Batch(federation, str(by or "")[:120], key, now, _abilities(federation, good.values()))
    return _write(batch, good, known, refused)


def _abilities(federation: Federation, orders: Iterable[Order]) -> frozenset[str]:
    """What some member can do, when tools are to be called."""
    if not any(order.type == workloads.MCP_TOOL for order in orders):
        return frozenset()
    rows = Agent.objects.members().filter(federation=federation).values_list("capabilities", flat=True)
    return frozenset(capability for capabilities in rows for capability in capabilities)


def _fault(order: Order, has_agents: bool, now: datetime) -> NoAgents | BadOrder | None:
    """What is wrong with it by itself."""
    if not has_agents and not order.queue_if_empty:
        return NoAgents()
    if order.deadline is not None and order.deadline <= now:
        return BadOrder("deadline", f"This has passed: it is {now:%Y-%m-%dT%H:%M:%SZ} here.")
    if not order.depends_on:
        return None
    if len(order.depends_on) > MOST_NEEDED:
        return BadOrder("depends_on", f"A task depends on at most {MOST_NEEDED} others.")
    if not isinstance(order.payload, dict) or "dependencies" in order.payload:
        return BadOrder("payload", "With depends_on the payload is an object without `dependencies`, which is added.")
    return None


def _model_fault(order: Order, models: predictions.Models) -> BadOrder | None:
    """Why a prediction is refused at once: once there, a model stays, so nothing later would mend it."""
    said = predictions.fault(order.payload, models) if order.type == workloads.INFER else ""
    return BadOrder("payload", said) if said else None


class _Known:
    """What the orders can name: tasks that are there, and each other."""

    def __init__(self, federation: Federation, orders: Mapping[int, Order], *, size: int) -> None:
        self.orders = orders
        self.size = size
        self.places: dict[str, int] = {}
        for place, order in orders.items():
            self.places.setdefault(order.key, place)
        asked = {each for order in orders.values() for each in order.depends_on if isinstance(each, UUID)}
        rows = Task.objects.filter(federation=federation, pk__in=asked)
        self.states: dict[UUID, str] = dict(rows.values_list("pk", "state")) if asked else {}

    def place_of(self, name: UUID | int | str) -> int | None:
        """Of an item of this batch."""
        if isinstance(name, int):
            return name if self.size > 1 and 0 <= name < self.size else None
        return None if isinstance(name, UUID) or not name else self.places.get(name)

    def fault(self, place: int) -> BadOrder | None:
        order = self.orders[place]
        if order.key and self.places[order.key] != place:
            return BadOrder("key", f"The task {self.places[order.key]} of this batch has this key already.")
        for name in order.depends_on:
            if self.place_of(name) is None and name not in self.states:
                where = "in this batch or this federation" if self.size > 1 else "in this federation"
                return BadOrder("depends_on", f"There is no task {name} {where}.")
        return None

    def needs(self, place: int) -> set[int]:
        found = (self.place_of(name) for name in self.orders[place].depends_on)
        return {each for each in found if each is not None}


@dataclass(frozen=True, slots=True)
class _Batch:
    """What all tasks of one submission have in common."""

    federation: Federation
    created_by: str
    api_key: UUID | None
    now: datetime
    abilities: frozenset[str]


def _write(
    batch: _Batch, orders: Mapping[int, Order], known: _Known, refused: dict[int, Exception]
) -> list[Task | Exception]:
    needs = [set() if place in refused else known.needs(place) for place in range(known.size)]
    in_order, refusals = sequence.order(needs, refused={place: str(why) for place, why in refused.items()})
    made: dict[int, Task] = {}
    links: dict[UUID, list[UUID]] = {}
    for place in in_order:
        needed = _ids(orders[place], known, made)
        task = made[place] = _task(batch, orders[place], dependencies.new_id(needed))
        if needed:
            links[task.pk] = needed
            _let_wait(task, needed, known)
    Task.objects.bulk_create(made.values(), batch_size=500)
    dependencies.link(batch.federation, links)
    for place, sentence in refusals.items():
        refused.setdefault(place, BadOrder("depends_on", sentence))
    return [made[place] if place in made else refused[place] for place in range(known.size)]


def _ids(order: Order, known: _Known, made: Mapping[int, Task]) -> list[UUID]:
    """What it needs, each once, in the order asked for."""
    found = []
    for name in order.depends_on:
        place = known.place_of(name)
        found.append(made[place].pk if place is not None else name)
    return list(dict.fromkeys(found))


def _let_wait(task: Task, needed: Sequence[UUID], known: _Known) -> None:
    open_ones = [pk for pk in needed if known.states.get(pk) != Task.State.SUCCEEDED]
    if open_ones:
        task.is_waiting, task.reason = True, dependencies.why_waiting(open_ones)


def _required(order: Order, can: frozenset[str]) -> list[str]:
    """A call of a tool goes to who has it; one that nobody has goes to any server, which says so."""
    tool = order.payload.get("tool") if order.type == workloads.MCP_TOOL and isinstance(order.payload, dict) else None
    return sorted({*order.required_capabilities, *({tool} & can if isinstance(tool, str) else ())})


def _task(batch: _Batch, order: Order, pk: UUID) -> Task:
    return Task(
        pk=pk,
        federation=batch.federation,
        type=order.type,
        label=workloads.label(type=order.type, payload=order.payload),
        payload=order.payload,
        priority=order.priority,
        required_capabilities=_required(order, batch.abilities),
        deadline=order.deadline,
        max_attempts=order.max_attempts,
        strategy=order.strategy,
        not_before=batch.now,
        created_at=batch.now,
        created_by=batch.created_by,
        api_key=batch.api_key,
    )
