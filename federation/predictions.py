"""Predictions of the federation's own models: which model a task asks for, and what an inference costs.

    submitted: the model is there --its attempt starts--> its price held --it succeeded--> one inference charged
                                                                         '--any other end--> let go

Hold and start are one transaction, as with an execution. The end of an attempt is metered once (wages.py), by a
message or a sweep, so a crash loses neither; the charge's key is the task's, whatever attempts it took.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from billing import ledger, metering, rating
from federation import inference, workloads
from federation.models import Agent, Attempt, Task
from sandboxes.setbacks import WAITS_AT_MOST

METER = "inference"
SOURCE = "federation"
Models = Mapping[UUID, inference.Model | str]


def models_of(federation_id: UUID, payloads: Iterable[Any]) -> Models:
    """The models that these payloads name; in words why one is none. What is left out is not there."""
    asked = set()
    for payload in payloads:
        with suppress(inference.InvalidInference):
            asked.add(inference.parse(payload if isinstance(payload, dict) else {}).model)
    if not asked:
        return {}
    rows = Task.objects.filter(federation=federation_id, pk__in=asked, type=workloads.TRAIN)
    return {pk: _model(state, result) for pk, state, result in rows.values_list("pk", "state", "result")}


def _model(state: str, result: object) -> inference.Model | str:
    if state != Task.State.SUCCEEDED:
        return f"That train task is {state}: there is a model when it has succeeded."
    try:
        return inference.read_model(result)
    except inference.InvalidInference as invalid:
        return str(invalid)


def newest_model(federation_id: UUID) -> UUID | None:
    """The id of the train task that succeeded last."""
    done = Task.objects.filter(federation=federation_id, type=workloads.TRAIN, state=Task.State.SUCCEEDED)
    found: UUID | None = done.order_by("-finished_at", "-pk").values_list("pk", flat=True).first()
    return found


def fault(payload: Any, models: Models) -> str:
    """Why nothing can be predicted of it; empty when something can."""
    try:
        workloads.check(type=workloads.INFER, payload=payload)
        asked = inference.parse(payload)
        inference.job(asked, _found(asked, models))
    except (workloads.BadPayload, inference.InvalidInference) as invalid:
        return str(invalid)
    return ""


def _found(asked: inference.Asked, models: Models) -> inference.Model:
    found = models.get(asked.model, f"There is no train task {asked.model} in this federation.")
    if isinstance(found, str):
        raise inference.InvalidInference(found)
    return found


def model_for(task: Task) -> inference.Model | None:
    """The model of a task that asks for one. Raises workloads.BadPayload."""
    if task.type != workloads.INFER:
        return None
    said = fault(task.payload, models := models_of(task.federation_id, [task.payload]))
    if said:
        raise workloads.BadPayload(said)
    return _found(inference.parse(task.payload), models)


def hold(*, attempt: Attempt, now: datetime) -> None:
    """Set the price of an inference aside, inside the transaction that starts it. Raises those of CANNOT_SPEND."""
    task = attempt.task
    if task.type != workloads.INFER:
        return
    account_id = task.federation.account_id
    price_ucr = rating.cost_now_ucr(account_id=account_id, meter=METER, quantity=Decimal(1), now=now)
    ledger.hold(
        account_id=account_id,
        # What costs nothing is recorded all the same, by what it captures.
        amount_ucr=max(1, price_ucr),
        key=_hold_key(attempt),
        # As its execution's: never expired by itself.
        expires_at=now + 2 * WAITS_AT_MOST,
        now=now,
        purpose="inference",
        meter=METER,
        agent=str(attempt.agent_id),
        api_key=str(task.api_key or ""),
    )


def settle(*, attempt: Attempt, now: datetime) -> int:
    """Charge for the prediction of an ended attempt, or let its price go; what it cost. Twice is once."""
    if attempt.task.type != workloads.INFER or attempt.agent.runtime != Agent.Runtime.MANAGED:
        return 0
    # There is no hold where an agent's own handler did tasks of this type before the product did.
    with suppress(ledger.UnknownHold, ledger.HoldEnded):
        if attempt.state != Attempt.State.SUCCEEDED:
            ledger.release(key=_hold_key(attempt), now=now)
            return 0
        record = metering.capture(
            hold_key=_hold_key(attempt),
            meter=METER,
            quantity=Decimal(1),
            occurred_at=attempt.ended_at,
            now=now,
            key=f"inference:{attempt.task_id}",
            source=SOURCE,
            agent=str(attempt.agent_id),
            properties={"task": str(attempt.task_id)},
        )
        return int(record.cost_ucr)
    return 0


def _hold_key(attempt: Attempt) -> str:
    return f"inference:{attempt.pk}"
