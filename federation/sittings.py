"""Managed agents sit down to their mail: an execution gives some messages to `on_message`, and each is settled.

    waits in the inbox -> offered, in a sitting -> done: its reply sent, then acknowledged
            ^                                   -> failed: offered again after `redelivery_seconds`; dead after five
            '------------------------------------- not looked at: as if it had not been offered

At least once: a sitting whose outcome was written half is settled again from the start; replies are sent once
(their `message_id`), and the rest of it repeats without effect. One sitting an agent, so that it takes its mail in
order, and AT_ONCE a federation, so that mail keeps no tasks from the sandboxes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Count, Q, QuerySet

from federation import bus, live, mail, managed, packs, readers, workloads
from federation.mail import Fate, Outcome
from federation.models import Agent, Sitting
from federation.packs import Draft, Item
from sandboxes import executions
from sandboxes.models import Artifact, Execution

AT_ONCE = 8
# So many are begun by one background task.
ROUND = 50
NOT_NOW_SECONDS = 15
NEVER_SECONDS = 60


class _Nothing(Exception):
    """Raised inside when there is nothing to sit down to."""


class _Refused(Exception):
    """Raised inside when no execution could be made; the messages go back."""

    def __init__(self, why: Exception, items: Sequence[Item], pause_seconds: int) -> None:
        self.why, self.items, self.pause = why, items, timedelta(seconds=pause_seconds)


def able() -> QuerySet[Agent]:
    """Whose handler reads messages, and who may work."""
    rows = Agent.objects.taking_work().filter(runtime=Agent.Runtime.MANAGED, federation__deleted_at=None)
    return rows.filter(handler__reads_messages=True)


# Beginning


def begin_all(*, now: datetime) -> list[Sitting]:
    """One for each agent that has mail and whose federation has room."""
    asked = readers.due(now=now)
    if not asked:
        return []
    found = {agent.pk: agent for agent in able().filter(pk__in=asked).select_related("federation__account", "handler")}
    room = _room(set(asked.values()))
    begun: list[Sitting] = []
    for agent_id, federation_id in asked.items():
        if agent_id not in found:
            readers.forget(federation_id=federation_id, agent_id=agent_id)
            continue
        # Who finds no room keeps its place, before those who are called later.
        if room[federation_id] <= 0 or len(begun) == ROUND:
            continue
        if (sitting := begin(agent=found[agent_id], now=now)) is not None:
            begun.append(sitting)
            room[federation_id] -= 1
    return begun


def _room(federation_ids: Iterable[UUID]) -> Counter[UUID]:
    taken = Sitting.objects.live().filter(agent__federation__in=federation_ids)
    counts = dict(taken.values_list("agent__federation").annotate(n=Count("pk")).order_by())
    return Counter({pk: AT_ONCE - counts.get(pk, 0) for pk in federation_ids})


def begin(*, agent: Agent, now: datetime) -> Sitting | None:
    """Give an agent what waits for it; None when that is nothing, it sits already, or it cannot be now."""
    # First: whatever comes from now on calls it again, and should this process die, it is looked for all the same.
    readers.look_again(agent=agent, at=now + timedelta(seconds=agent.federation.redelivery_seconds))
    try:
        with transaction.atomic():
            sitting = _begin(agent, now)
    except IntegrityError:
        return None
    except _Nothing:
        readers.next_look(agent=agent, now=now)
        return None
    except _Refused as refused:
        _give_back(agent, [item.id for item in refused.items], now)
        readers.explain(agent=agent, why=str(refused.why))
        readers.next_look(agent=agent, now=now, not_before=now + refused.pause)
        return None
    readers.explain(agent=agent, why="")
    return sitting


def _begin(agent: Agent, now: datetime) -> Sitting:
    handler = agent.handler
    assert handler is not None
    sitting = Sitting.objects.create(agent=agent, handler=handler, started_at=now)
    items = _offered(agent, now)
    if not items:
        raise _Nothing
    names = dict(Agent.objects.filter(pk__in={item.message["from"] for item in items}).values_list("pk", "name"))
    said = [_said(item, names) for item in items]
    asked = mail.asked(said, timeout_seconds=handler.timeout_seconds)
    try:
        sitting.execution = executions.submit(
            account=agent.federation.account,
            metadata={
                "name": f"Mail of {agent}"[:80],
                "federation": agent.federation.name,
                "handler": str(handler.version),
                "messages": str(len(items)),
            },
            agent=str(agent.pk),
            now=now,
            **workloads.message_arguments(asked=asked, handler=handler.as_work()),
        )
    except managed.NOT_NOW as refused:
        raise _Refused(refused, items, NOT_NOW_SECONDS) from refused
    except managed.NEVER as refused:
        raise _Refused(refused, items, NEVER_SECONDS) from refused
    sitting.taken, sitting.messages = len(items), [_kept(item) for item in items]
    sitting.save(update_fields=["execution", "taken", "messages"])
    live.agents_changed(agent.federation, [agent.pk])
    return sitting


def _offered(agent: Agent, now: datetime) -> list[Item]:
    """What one sitting takes; the rest waits as if it had not been offered."""
    found = bus.receive(agent=agent, most=mail.MOST_MESSAGES, clock=lambda: now)
    passing = [item.id for item in found if item.relay_to]
    if passing:
        bus.acknowledge(agent=agent, message_ids=passing, now=now)
    own = [item for item in found if not item.relay_to]
    fits = mail.fitting(len(json.dumps(item.body)) for item in own)
    _give_back(agent, [item.id for item in own[fits:]], now)
    return own[:fits]


def _said(item: Item, names: Mapping[UUID, str]) -> dict[str, Any]:
    """A message as the handler reads it: as a remote agent does, with the sender's name."""
    message = item.message
    shown = {name: message[name] for name in ("id", "from", "to", "type", "payload", "correlation_id", "priority")}
    times = {"created_at": message["created_at"], "expires_at": item.expires_at.isoformat()}
    return {**shown, **times, "from_name": names.get(UUID(message["from"]), ""), "delivery_count": item.delivery_count}


def _kept(item: Item) -> dict[str, Any]:
    message = item.message
    kept = {"id": item.id, "from": message["from"], "correlation_id": message["correlation_id"]}
    return {**kept, "delivery_count": item.delivery_count, "is_reply": "in_reply_to" in message}


# Ending


def advance(*, execution_id: UUID, now: datetime) -> Sitting | None:
    """Settle each message of a sitting whose execution is settled; None when there is nothing to settle."""
    execution = Execution.objects.light().filter(pk=execution_id).first()
    if execution is None or not execution.is_settled:
        return None
    with transaction.atomic():
        rows = Sitting.objects.live().select_for_update(of=("self",), no_key=True)
        sitting = rows.select_related("agent__federation").filter(execution=execution).first()
        if sitting is None:
            return None
        _settle(sitting, _outcomes(sitting, execution), execution.started_at is not None, now)
    return sitting


def _outcomes(sitting: Sitting, execution: Execution) -> dict[str, Outcome]:
    left = Artifact.objects.filter(execution=execution, path=workloads.TOLD_PATH).values_list("content", flat=True)
    told = left.first()
    return mail.judge(
        [message["id"] for message in sitting.messages],
        None if told is None else bytes(told),
        error="" if execution.state == Execution.State.SUCCEEDED else managed.why(execution),
        ran=execution.started_at is not None,
        is_lost=managed.is_infrastructure(execution),
    )


def _settle(sitting: Sitting, outcomes: Mapping[str, Outcome], ran: bool, now: datetime) -> None:
    agent = sitting.agent
    by_id = {message["id"]: message for message in sitting.messages}
    judged = {pk: _answered(agent, by_id[pk], outcome, now) for pk, outcome in outcomes.items()}
    done = [pk for pk, outcome in judged.items() if outcome.fate == Fate.DONE]
    failed = {pk: outcome for pk, outcome in judged.items() if outcome.fate == Fate.FAILED}
    if done:
        bus.acknowledge(agent=agent, message_ids=done, now=now)
    for pk, outcome in failed.items():
        if by_id[pk]["delivery_count"] >= mail.MOST_DELIVERIES:
            readers.bury(agent=agent, message_id=pk, error=outcome.error, now=now)
    _give_back(agent, [pk for pk, outcome in judged.items() if outcome.fate == Fate.UNTOUCHED], now)
    sitting.done, sitting.failed, sitting.messages, sitting.ended_at = len(done), len(failed), [], now
    sitting.error = next((outcome.error for outcome in failed.values()), "")
    sitting.save(update_fields=["done", "failed", "messages", "ended_at", "error"])
    live.agents_changed(agent.federation, [agent.pk])
    pause = timedelta(0) if ran else timedelta(seconds=NOT_NOW_SECONDS)
    transaction.on_commit(lambda: readers.next_look(agent=agent, now=now, not_before=now + pause))


def _answered(agent: Agent, message: Mapping[str, Any], outcome: Outcome, now: datetime) -> Outcome:
    """The outcome, after its reply was sent. A reply gets none: two that answer everything would never stop."""
    if outcome.fate != Fate.DONE or outcome.reply is None or message["is_reply"]:
        return outcome
    draft = Draft(
        sender=agent.pk,
        recipient=UUID(message["from"]),
        payload=outcome.reply,
        correlation_id=message["correlation_id"] or message["id"],
        message_id=f"reply:{message['id']}",
        in_reply_to=message["id"],
    )
    try:
        bus.send(federation=agent.federation, draft=draft, now=now)
    except bus.UnknownAgent:
        return outcome  # whoever asked, or who answers, is gone
    except (bus.InboxFull, packs.PayloadTooLarge, packs.UnfitPayload) as refused:
        return Outcome(Fate.FAILED, error=f"Its reply was refused: {refused}")
    return outcome


def _give_back(agent: Agent, message_ids: Sequence[str], now: datetime) -> None:
    readers.give_back(agent=agent, message_ids=message_ids, now=now)


# Sweeping


@dataclass(frozen=True, slots=True)
class Found:
    to_advance: list[UUID]
    to_stop: list[UUID]


def watch(*, now: datetime) -> Found:
    """Sittings that ended unheard, and executions that go on for an agent that is gone."""
    rows = Sitting.objects.live().exclude(execution=None).select_related("execution", "agent__federation")
    running = list(rows.defer(*(f"execution__{name}" for name in managed.HEAVY)))
    gone = [each for each in running if each.agent.left_at or each.agent.federation.deleted_at]
    settled = [each.execution_id for each in running if each.execution.is_settled]
    # Its execution was deleted: nobody will tell what became of it, and the messages are offered again in time.
    Sitting.objects.live().filter(execution=None, started_at__lt=now - timedelta(minutes=1)).update(
        ended_at=now, messages=[], error="Its execution is gone."
    )
    return Found(settled, [each.execution_id for each in gone if each.execution_id not in settled])


def see_to(*, federation_id: UUID, now: datetime) -> None:
    """Whoever reads its inbox in this federation is known to the bus, and called where something waits."""
    reads = Agent.objects.members().filter(
        Q(handler__reads_messages=True), runtime=Agent.Runtime.MANAGED, federation=federation_id
    )
    readers.see_to(federation_id=federation_id, agent_ids=list(reads.values_list("pk", flat=True)), now=now)
