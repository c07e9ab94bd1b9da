"""The rules of tasks as a model, driven beside the stored layer through whatever may happen, on a clock of its own.

Agents hold beliefs: a task with the epoch they were given. A belief may be told at any time, never (dropped, crashed),
twice (duplicated) or long after it has gone stale (delayed, paused). NTD_RULES_EXAMPLES sets how many stories are told.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as some
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from federation import agents, attempts, bulk, coordination, dependencies, dispatch, losses
from federation.models import Attempt, DeadLetter, Dependency, Task
from tests import factories

pytestmark = pytest.mark.django_db
EXAMPLES = int(os.environ.get("NTD_RULES_EXAMPLES", "15"))
LEASE, SILENCE, MOST_AGENTS, MOST_TASKS = 30, 60, 4, 12
HELD, LIVE = ("assigned", "running"), ("queued", "assigned", "running")
BAD = ("failed", "cancelled", "expired", "dead")


@dataclass
class Known:
    """A task as the rules say it is."""

    row: Task
    most: int
    needs: list[Known]
    deadline: Any
    not_before: Any
    state: str = "queued"
    epoch: int = 0
    tries: int = 0
    holder: UUID | None = None
    lease: Any = None
    result: Any = None
    stopped_by: Known | None = None
    epochs: list[int] = field(default_factory=list)
    successes: int = 0

    @property
    def waits(self) -> bool:
        return any(each.state != "succeeded" for each in self.needs)

    def ripe(self, now: Any) -> bool:
        return self.state == "queued" and not self.waits and self.not_before <= now

    def queue(self, now: Any, pause: float = 0) -> None:
        self.state, self.holder, self.not_before = "queued", None, now + timedelta(seconds=pause)

    def again_or_dead(self, now: Any, pause: float) -> None:
        self.queue(now, pause)
        if self.tries >= self.most:
            self.state = "dead"


@dataclass
class Member:
    row: Any
    capacity: int
    beat: Any


class TaskRules(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.before = transaction.savepoint()
        self.now = timezone.now()
        self.rng = Random(1)
        self.federation = factories.make_federation(now=self.now, lease_seconds=LEASE, agent_timeout_seconds=SILENCE)
        self.tasks: dict[UUID, Known] = {}
        self.crew: dict[UUID, Member] = {}
        self.beliefs: list[tuple[Member, Known, int]] = []

    def teardown(self) -> None:
        transaction.savepoint_rollback(self.before)

    # What people do

    @initialize(capacities=some.lists(some.integers(1, 3), min_size=1, max_size=3), tasks=some.integers(1, 4))
    def begin_with_some(self, capacities: list[int], tasks: int) -> None:
        for capacity in capacities:
            self._join(capacity)
        for _ in range(tasks):
            self._submit(set(), 2, False)

    @precondition(lambda self: len(self.tasks) < MOST_TASKS)
    @rule(needs=some.sets(some.integers(0, MOST_TASKS), max_size=2), most=some.integers(1, 3), ends=some.booleans())
    def submit(self, needs: set[int], most: int, ends: bool) -> None:
        self._submit(needs, most, ends)

    def _submit(self, needs: set[int], most: int, ends: bool) -> None:
        known = list(self.tasks.values())
        needed = [known[place] for place in sorted(needs) if place < len(known)]
        deadline = self.now + timedelta(seconds=90) if ends else None
        row = factories.make_task(
            self.federation,
            now=self.now,
            max_attempts=most,
            deadline=deadline,
            depends_on=[each.row.pk for each in needed],
        )
        self.tasks[row.pk] = Known(row, most, needed, deadline, self.now)

    @precondition(lambda self: self.tasks)
    @rule(which=some.integers(0, MOST_TASKS))
    def cancel(self, which: int) -> None:
        task = self.one(which)
        if task.state not in LIVE:
            with pytest.raises(attempts.TaskSettled):
                coordination.cancel_task(task=task.row, now=self.now)
            return
        coordination.cancel_task(task=task.row, now=self.now)
        task.state = "cancelled"

    @precondition(lambda self: self.tasks)
    @rule(which=some.integers(0, MOST_TASKS), by_letter=some.booleans())
    def retry_or_replay(self, which: int, by_letter: bool) -> None:
        task = self.one(which)
        letter = DeadLetter.objects.filter(task=task.row, replayed_at=None).first() if by_letter else None

        def act() -> None:
            if letter is not None:
                coordination.replay(letter=letter, now=self.now)
            else:
                coordination.retry_task(task=task.row, now=self.now)

        if task.state not in BAD:
            assert letter is None
            with pytest.raises(attempts.TaskSettled):
                act()
        elif any(each.state in BAD for each in task.needs):
            with pytest.raises(dependencies.NeedsAnother):
                act()
        else:
            act()
            task.queue(self.now)
            task.tries, task.stopped_by = 0, None
            task.deadline = task.deadline if task.deadline and task.deadline > self.now else None
            self.revive(task)

    def revive(self, task: Known) -> None:
        for each in self.tasks.values():
            if each.stopped_by is task and each.state == "cancelled":
                each.queue(self.now)
                each.tries, each.stopped_by = 0, None

    # What agents do

    @precondition(lambda self: len(self.crew) < MOST_AGENTS)
    @rule(capacity=some.integers(1, 3))
    def join(self, capacity: int) -> None:
        self._join(capacity)

    def _join(self, capacity: int) -> None:
        row = factories.make_agent(self.federation, now=self.now, max_concurrent_tasks=capacity)
        self.crew[row.pk] = Member(row, capacity, self.now)

    @precondition(lambda self: self.crew)
    @rule(which=some.integers(0, MOST_AGENTS))
    def leave(self, which: int) -> None:
        member = self.member(which)
        agents.leave(agent=member.row, now=self.now)
        self.gone(member)

    def gone(self, member: Member) -> None:
        del self.crew[member.row.pk]
        for task in self.held_by(member):
            self.release(task)

    def release(self, task: Known) -> None:
        if task.state == "running":
            task.again_or_dead(self.now, 0)
        else:
            task.queue(self.now)

    @precondition(lambda self: self.crew)
    @rule(which=some.integers(0, MOST_AGENTS), lists=some.booleans())
    def beat(self, which: int, lists: bool) -> None:
        member = self.member(which)
        mine = [(task, epoch) for each, task, epoch in self.beliefs if each is member] if lists else []
        running = [{"task": task.row.pk, "epoch": epoch, "progress": 0.5} for task, epoch in mine]
        reply = agents.heartbeat(agent=member.row, status="idle", load=None, running=running, now=self.now)
        member.beat = self.now
        kept = [task for task, epoch in mine if self.is_held(member, task, epoch)]
        for task in kept:
            task.lease = self.now + timedelta(seconds=LEASE)
        assert sorted(reply.cancel) == sorted(
            task.row.pk for task, epoch in mine if task not in kept or epoch != task.epoch
        )

    @precondition(lambda self: self.crew)
    @rule(which=some.integers(0, MOST_AGENTS), most=some.integers(1, 3))
    def claim(self, which: int, most: int) -> None:
        member = self.member(which)
        self.settle()
        own = [task for task in self.held_by(member) if task.state == "assigned"]
        room = member.capacity - len(self.held_by(member))
        ripe = [task for task in self.tasks.values() if task.ripe(self.now)]
        wanted = min(most, len(own)) + max(0, min(most - len(own), room, len(ripe)))
        stealable = self.stealable(member)

        claimed = dispatch.claim_many(agent=member.row, most=most, now=self.now)

        steals = not wanted and not self.held_by(member) and bool(stealable)
        assert len(claimed) == (1 if steals else wanted)
        for attempt in claimed:
            task = self.tasks[attempt.task_id]
            assert task in own or task in ripe or (steals and task in stealable)
            if task not in own:
                self.give(task, member)
            self.begin(task, member)

    def stealable(self, member: Member) -> list[Known]:
        busy = {task.holder for task in self.tasks.values() if task.state == "running"}
        waiting = [task for task in self.tasks.values() if task.state == "assigned" and task.holder != member.row.pk]
        return [task for task in waiting if task.holder in busy]

    def begin(self, task: Known, member: Member) -> None:
        task.state, task.tries, task.lease = "running", task.tries + 1, self.now + timedelta(seconds=LEASE)
        self.beliefs.append((member, task, task.epoch))

    def give(self, task: Known, member: Member) -> None:
        assert not task.waits
        task.state, task.holder, task.epoch = "assigned", member.row.pk, task.epoch + 1
        task.lease = self.now + timedelta(seconds=LEASE)
        task.epochs.append(task.epoch)

    @precondition(lambda self: self.beliefs)
    @rule(which=some.integers(0, 60), how=some.sampled_from(["complete", "bulk", "fail", "give up", "extend"]))
    def say(self, which: int, how: str) -> None:
        """Any belief, true or stale, said for the first time or again."""
        member, task, epoch = self.beliefs[which % len(self.beliefs)]
        current = self.is_held(member, task, epoch)
        if not current:
            was = (task.state, task.result)
            self.tell(how, member, task, epoch)
            assert (task.state, task.result) == was
            return
        assert self.tell(how, member, task, epoch) is None
        if how == "extend":
            task.lease = self.now + timedelta(seconds=LEASE)
        elif how == "fail":
            task.again_or_dead(self.now, 2.0 ** (task.tries - 1))
        elif how == "give up":
            task.state = "failed"
        else:
            task.state, task.result, task.successes = "succeeded", f"by {epoch}", task.successes + 1

    def tell(self, how: str, member: Member, task: Known, epoch: int) -> Exception | None:
        about = {"task_id": task.row.pk, "epoch": epoch, "agent_id": member.row.pk, "now": self.now}
        try:
            if how == "complete":
                attempts.complete(**about, result=f"by {epoch}")
            elif how == "bulk":
                answer = bulk.Answer(task.row.pk, epoch, f"by {epoch}")
                (said,) = bulk.complete(agent=member.row, answers=[answer], now=self.now)
                return said if isinstance(said, Exception) else None
            elif how == "extend":
                attempts.extend(**about)
            else:
                attempts.fail(**about, error="boom", retryable=how == "fail")
        except (attempts.StaleEpoch, attempts.TaskSettled) as refused:
            return refused
        return None

    # What the sweeps do

    @rule()
    def assign(self) -> None:
        self.settle()
        made = dispatch.assign(federation_id=self.federation.pk, now=self.now, rng=self.rng)
        for attempt in made:
            task, member = self.tasks[attempt.task_id], self.crew[attempt.agent_id]
            assert task.ripe(self.now)
            self.give(task, member)
        ripe = [task for task in self.tasks.values() if task.ripe(self.now)]
        assert not ripe or not any(len(self.held_by(each)) < each.capacity for each in self.crew.values())

    @rule(seconds=some.sampled_from([1, 5, 20, 31, 61]))
    def time_goes_by(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def sweep(self) -> None:
        """Deadlines, then leases, then silence; as the sweeps look for them."""
        attempts.expire(now=self.now)
        for task in self.tasks.values():
            if task.state in LIVE and task.deadline and task.deadline <= self.now:
                task.state = "expired"
        attempts.lapse(now=self.now)
        for task in self.tasks.values():
            if task.state in HELD and task.lease <= self.now:
                self.release(task)
        losses.lose_silent(now=self.now)
        for member in list(self.crew.values()):
            if member.beat < self.now - timedelta(seconds=SILENCE):
                self.gone(member)

    def settle(self) -> None:
        """A bad end cancels what waits behind it; of several the earliest is to blame."""
        fallen: dict[UUID, set[UUID]] = {}
        for task in self.tasks.values():
            if task.state != "queued":
                continue
            blamed = {each.row.pk for each in task.needs if each.state in BAD}
            blamed |= {pk for each in task.needs for pk in fallen.get(each.row.pk, ())}
            if blamed:
                fallen[task.row.pk] = blamed
        for pk, blamed in fallen.items():
            self.tasks[pk].state, self.tasks[pk].stopped_by = "cancelled", self.tasks[min(blamed)]

    # What must hold

    def one(self, which: int) -> Known:
        return list(self.tasks.values())[which % len(self.tasks)]

    def member(self, which: int) -> Member:
        return list(self.crew.values())[which % len(self.crew)]

    def held_by(self, member: Member) -> list[Known]:
        return [task for task in self.tasks.values() if task.state in HELD and task.holder == member.row.pk]

    def is_held(self, member: Member, task: Known, epoch: int) -> bool:
        return task.state == "running" and task.holder == member.row.pk and task.epoch == epoch

    @invariant()
    def the_rows_are_as_the_rules_say(self) -> None:
        rows = Task.objects.values_list("pk", "state", "epoch", "tries", "result")
        assert {pk: rest for pk, *rest in rows} == {
            pk: [task.state, task.epoch, task.tries, task.result] for pk, task in self.tasks.items()
        }

    @invariant()
    def nothing_succeeds_twice_and_epochs_rise(self) -> None:
        for task in self.tasks.values():
            assert task.successes <= 1
            assert task.epochs == list(range(1, len(task.epochs) + 1))

    @invariant()
    def nobody_holds_more_than_fits_and_no_dependant_is_early(self) -> None:
        for member in self.crew.values():
            assert len(self.held_by(member)) <= member.capacity
        held = Attempt.objects.live().values_list("task", flat=True)
        assert sorted(held) == sorted(pk for pk, task in self.tasks.items() if task.state in HELD)
        early = Dependency.objects.filter(task__attempts__isnull=False).exclude(needs__state="succeeded")
        assert not early.exists()


def test_the_stored_layer_keeps_the_rules_whatever_happens():
    told = settings(
        max_examples=EXAMPLES,
        stateful_step_count=40,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(TaskRules, settings=told)
