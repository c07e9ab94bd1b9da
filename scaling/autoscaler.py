"""The auto-scaler: reads each group's target, asks the policy, applies, and records what it did and why.

read target -> policy.decide -> paused? auto-scale off? -> resize | drain -> Decision
"""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import OuterRef, Subquery

from scaling import leases, live, policy, targets
from scaling.models import Decision, Group
from scaling.policy import Action, History, Load, Policy, Verdict

LEASE = "autoscaler"
LEASE_SECONDS = 30.0
EVALUATE_SECONDS = 5.0
SCALER = "auto-scaler"
KEEP_DECISIONS = timedelta(days=90)
log = logging.getLogger(__name__)

# The contract's name of a policy field -> the column.
COLUMN = {"type": "policy_type", "min": "min_size", "max": "max_size"}
POLICY_FIELDS = tuple(Policy.__dataclass_fields__)


class GroupExists(Exception):
    """Raised when the name or the target has a group already."""

    code = "conflict"


class Contradiction(Exception):
    """Raised for a policy whose fields contradict each other; `problems` says which."""

    code = "validation_error"

    def __init__(self, problems: dict[str, str]) -> None:
        self.problems = problems
        super().__init__(" ".join(problems.values()))

    @property
    def extras(self) -> dict[str, Any]:
        return {"errors": {f"policy.{field}": [sentence] for field, sentence in self.problems.items()}}


class Changed(Exception):
    """Raised when somebody changed the group meanwhile."""

    code = "conflict"


def policy_of(group: Group) -> Policy:
    return Policy(**{field: getattr(group, COLUMN.get(field, field)) for field in POLICY_FIELDS})


# --- groups


def create(*, name: str, target_type: str, target_id: str, wanted: Policy, now: datetime) -> Group:
    """A group for a target that is there and that somebody has registered."""
    targets.check(target_type, target_id)
    _check(wanted)
    try:
        with transaction.atomic():
            return Group.objects.create(
                name=name, target_type=target_type, target_id=target_id, created_at=now, **_columns(wanted)
            )
    except IntegrityError as taken:
        raise GroupExists("There is a group of that name or for that target already.") from taken


def change(*, group: Group, name: str, wanted: Policy, version: int | None = None) -> Group:
    """Give a group another name or policy; with `version` only if it is still that one."""
    _check(wanted)
    rows = Group.objects.filter(pk=group.pk, version=group.version if version is None else version)
    try:
        with transaction.atomic():
            if not rows.update(name=name, version=group.version + 1, **_columns(wanted)):
                raise Changed("Somebody changed this group meanwhile. Load it again.")
    except IntegrityError as taken:
        raise GroupExists("There is a group of that name already.") from taken
    group.refresh_from_db()
    return group


def _check(wanted: Policy) -> None:
    found = policy.problems(wanted)
    if found:
        raise Contradiction(found)


def _columns(wanted: Policy) -> dict[str, Any]:
    return {COLUMN.get(field, field): getattr(wanted, field) for field in POLICY_FIELDS}


def pause(*, group: Group) -> Group:
    """Decisions are recorded as held from now on. Again: nothing changes."""
    return _set_paused(group, paused=True)


def resume(*, group: Group) -> Group:
    return _set_paused(group, paused=False)


def _set_paused(group: Group, *, paused: bool) -> Group:
    with transaction.atomic():
        if Group.objects.filter(pk=group.pk, paused=not paused).update(paused=paused):
            live.decided(group.pk)
    group.refresh_from_db()
    return group


def remove(*, group: Group) -> None:
    """Forget a group and its decisions; its target keeps the size it has."""
    group.delete()


# --- evaluation


def evaluate_all(*, now: datetime) -> int:
    """Evaluate every group that is due, unless another process is at it; returns how many."""
    epoch = leases.take(name=LEASE, holder=str(uuid4()), ttl_seconds=LEASE_SECONDS, now=now)
    if epoch is None:
        return 0
    try:
        # Two schedulers would count every violation twice, so a group is due half a period after its last time.
        recent = now - timedelta(seconds=EVALUATE_SECONDS / 2)
        due = Group.objects.exclude(evaluated_at__gt=recent).order_by("pk").values_list("pk", flat=True)
        return sum(_evaluate_as_leader(pk, epoch=epoch, now=now) for pk in due)
    finally:
        leases.release(name=LEASE, epoch=epoch, now=now)


def _evaluate_as_leader(group_id: UUID, *, epoch: int, now: datetime) -> bool:
    try:
        with transaction.atomic():
            leases.limit_idleness(seconds=LEASE_SECONDS)
            leases.confirm(name=LEASE, epoch=epoch, now=now)
            evaluate(group_id=group_id, by=SCALER, now=now)
    except (Group.DoesNotExist, leases.StaleEpoch):
        return False
    except Exception:  # noqa: BLE001 - one group's target must not keep the others from being scaled
        log.exception("group %s could not be evaluated", group_id)
        return False
    return True


@transaction.atomic
def evaluate(*, group_id: UUID, by: str, now: datetime, load: Load | None = None, dry_run: bool = False) -> Decision:
    """Decide for one group and apply it. A dry run only says what would happen; `load` stands in for the target's."""
    group = Group.objects.select_for_update().get(pk=group_id)
    try:
        target = targets.find(group.target_type)
        current = target.current(group.target_id)
        load = load or target.load(group.target_id, now=now)
    except targets.UnknownTarget as gone:
        return _record(group, _held(0, 0, str(gone), "target"), inputs={}, by=by, now=now, dry_run=dry_run)
    verdict = policy.decide(policy_of(group), load, current=current, history=_recall(group), now=now)
    verdict = _allowed(group, verdict)
    if not dry_run and verdict.desired != current:
        verdict = _apply(group, target, verdict, now)
    return _record(group, verdict, inputs=_inputs(load), by=by, now=now, dry_run=dry_run)


def _held(current: int, recommended: int, reason: str, limited_by: str) -> Verdict:
    return Verdict(current, recommended, current, Action.HELD, reason, limited_by)


def _allowed(group: Group, verdict: Verdict) -> Verdict:
    if verdict.desired == verdict.current:
        return verdict
    if group.paused:
        return _held_back(verdict, "The group is paused.", "paused")
    if not settings.AUTO_SCALE:
        return _held_back(verdict, "Auto-scaling is off (NTD_AUTO_SCALE).", "auto_scale_off")
    return verdict


def _held_back(verdict: Verdict, sentence: str, limited_by: str) -> Verdict:
    return replace(
        verdict,
        desired=verdict.current,
        action=Action.HELD,
        reason=f"{verdict.reason} {sentence}",
        limited_by=limited_by,
    )


def _apply(group: Group, target: targets.Target, verdict: Verdict, now: datetime) -> Verdict:
    move = target.resize if verdict.desired > verdict.current else target.drain
    try:
        with transaction.atomic():
            move(group.target_id, to=verdict.desired, now=now)
            reached = target.current(group.target_id)
    except Exception as error:  # noqa: BLE001 - whatever a target raises becomes the decision's reason
        log.exception("group %s could not be resized", group.name)
        return _held_back(verdict, f"It could not be applied: {error}", "target")
    if reached == verdict.current:
        return _held_back(verdict, f"The target allows no other size than {reached}.", "target")
    if reached != verdict.desired:
        reason = f"{verdict.reason} The target allows {reached}."
        verdict = replace(verdict, desired=reached, reason=reason, limited_by="target")
    return replace(verdict, history=verdict.history.applied(by=reached - verdict.current, now=now))


def _record(
    group: Group, verdict: Verdict, *, inputs: dict[str, Any], by: str, now: datetime, dry_run: bool
) -> Decision:
    decision = Decision(
        group=group,
        current=verdict.current,
        recommended=verdict.recommended,
        applied=verdict.desired,
        action=verdict.action,
        reason=verdict.reason[:500],
        limited_by=verdict.limited_by,
        inputs=inputs,
        by=by[:160],
        last_at=now,
        created_at=now,
    )
    if dry_run:
        return decision
    Group.objects.filter(pk=group.pk).update(memory=_written(verdict.history), evaluated_at=now)
    return _kept(decision)


def _kept(decision: Decision) -> Decision:
    """Moves are kept one by one; the same answer as last time only counts up, and quiet ones are not kept at all."""
    last = Decision.objects.filter(group=decision.group).order_by("-created_at", "-pk").first()
    if decision.action in (Action.NONE, Action.HELD) and last and _says_the_same(last, decision):
        Decision.objects.filter(pk=last.pk).update(
            repeats=last.repeats + 1,
            last_at=decision.last_at,
            recommended=decision.recommended,
            reason=decision.reason,
            inputs=decision.inputs,
        )
        last.refresh_from_db()
        return last
    if decision.action == Action.NONE and decision.by == SCALER:
        return decision
    decision.save(force_insert=True)
    live.decided(decision.group_id)
    return decision


def _says_the_same(last: Decision, decision: Decision) -> bool:
    parts = ("action", "current", "limited_by", "by")
    return all(getattr(last, part) == getattr(decision, part) for part in parts)


def _inputs(load: Load) -> dict[str, Any]:
    """The load as JSON; what is not a number becomes null."""
    said = {name: value for name, value in asdict(load).items() if value is not None and name != "needed"}
    said |= {name: None for name, value in said.items() if isinstance(value, int | float) and not math.isfinite(value)}
    return {**said, "observed_at": load.observed_at.isoformat()}


def _recall(group: Group) -> History:
    memory = group.memory or {}
    changed_at = memory.get("changed_at")
    return History(
        recommendations=_points(memory.get("recommendations", [])),
        changes=_points(memory.get("changes", [])),
        over=memory.get("over", 0),
        under=memory.get("under", 0),
        changed_at=datetime.fromisoformat(changed_at) if changed_at else None,
    )


def _points(said: list[list[Any]]) -> tuple[tuple[datetime, int], ...]:
    return tuple((datetime.fromisoformat(at), number) for at, number in said)


def _written(history: History) -> dict[str, Any]:
    return {
        "recommendations": [[at.isoformat(), number] for at, number in history.recommendations],
        "changes": [[at.isoformat(), number] for at, number in history.changes],
        "over": history.over,
        "under": history.under,
        "changed_at": history.changed_at.isoformat() if history.changed_at else None,
    }


def latest(target_type: str) -> dict[str, Decision]:
    """The last decision of each target that has one, by the target's id."""
    last = Decision.objects.filter(group=OuterRef("pk")).order_by("-created_at", "-pk").values("pk")[:1]
    groups = Group.objects.filter(target_type=target_type).annotate(last=Subquery(last))
    found = Decision.objects.filter(pk__in=groups.values("last")).select_related("group")
    return {decision.group.target_id: decision for decision in found}


def prune(*, now: datetime) -> int:
    """Forget decisions of long ago; returns how many."""
    return int(Decision.objects.filter(last_at__lt=now - KEEP_DECISIONS).delete()[0])
