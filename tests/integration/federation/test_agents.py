"""Joining, leaving, heartbeats, loss, and who leads."""

from datetime import timedelta
from random import Random

import pytest
from django.utils import timezone

from federation import agents, attempts, coordination, dispatch, losses, wiring
from federation.models import Agent, Attempt, DeadLetter, Event, Federation, Task
from tests import factories

pytestmark = pytest.mark.django_db
NOW = timezone.now()


def after(seconds):
    return NOW + timedelta(seconds=seconds)


def beat(agent, now, **changes):
    return agents.heartbeat(**{"agent": agent, "status": "idle", "load": None, "running": [], "now": now} | changes)


def kinds(federation):
    return list(Event.objects.filter(federation=federation).order_by("created_at", "pk").values_list("kind", flat=True))


def test_F5_the_first_agent_of_a_federation_leads_it():
    federation = factories.make_federation()

    agent = factories.make_agent(federation, now=NOW)

    federation.refresh_from_db()
    assert (federation.leader, federation.epoch) == (agent, 1)
    assert Agent.objects.members().filter(federation=federation).count() == 1


def test_F6_of_two_agents_one_is_left_when_the_first_goes():
    federation = factories.make_federation()
    first, second = factories.make_agent(federation, "1"), factories.make_agent(federation, "2")

    agents.leave(agent=first, now=timezone.now())

    assert list(Agent.objects.members().filter(federation=federation)) == [second]


def test_each_joining_and_leaving_raises_the_topology_version_by_one():
    federation = factories.make_federation()
    first = factories.make_agent(federation, "1")
    factories.make_agent(federation, "2")
    agents.leave(agent=first, now=timezone.now())
    agents.leave(agent=first, now=timezone.now())

    federation.refresh_from_db()

    assert federation.topology_version == 4


def test_the_one_after_the_last_is_refused_and_room_is_made_by_leaving():
    federation = factories.make_federation(max_agents=1)
    first = factories.make_agent(federation, "1")

    with pytest.raises(agents.FederationFull, match="may have 1 agents"):
        factories.make_agent(federation, "2")

    agents.leave(agent=first, now=timezone.now())
    assert factories.make_agent(federation, "2").position == 2


def test_when_the_leader_leaves_another_leads_in_the_next_epoch():
    federation = factories.make_federation(topology="star")
    first = factories.make_agent(federation, "1", now=NOW)
    plain = factories.make_agent(federation, "plain", now=NOW)
    able = factories.make_agent(federation, "able", capabilities=["a", "b"], now=NOW)

    agents.leave(agent=first, now=NOW)

    federation.refresh_from_db()
    assert (federation.leader, federation.epoch) == (able, 2)
    members = list(Agent.objects.linked().filter(federation=federation))
    assert federation.shaped(members).neighbours(plain.pk) == [able.pk]


def test_a_leader_that_falls_silent_is_replaced_when_its_lease_ends():
    federation = factories.make_federation(heartbeat_seconds=2)
    factories.make_agent(federation, "1", now=NOW)
    second = factories.make_agent(federation, "2", now=NOW)
    beat(second, after(3))

    assert wiring.see_to_leaders(now=after(3)) == []
    assert wiring.see_to_leaders(now=after(4)) == [federation.pk]
    assert wiring.see_to_leaders(now=after(4)) == []

    federation.refresh_from_db()
    assert (federation.leader, federation.epoch) == (second, 2)


def test_a_leader_that_beats_goes_on_leading_in_the_same_epoch():
    federation = factories.make_federation(heartbeat_seconds=2)
    leader = factories.make_agent(federation, "1", now=NOW)
    for seconds in (3, 6, 9):
        beat(leader, after(seconds))
        wiring.see_to_leaders(now=after(seconds))

    federation.refresh_from_db()

    assert (federation.leader, federation.epoch) == (leader, 1)


def test_a_leader_that_comes_back_late_leads_in_a_new_epoch():
    federation = factories.make_federation(heartbeat_seconds=2)
    leader = factories.make_agent(federation, "1", now=NOW)

    beat(leader, after(10))
    wiring.see_to_leaders(now=after(10))

    federation.refresh_from_db()
    assert (federation.leader, federation.epoch) == (leader, 2)


def test_nobody_leads_while_nobody_can():
    federation = factories.make_federation()
    only = factories.make_agent(federation, now=NOW)

    agents.leave(agent=only, now=NOW)

    federation.refresh_from_db()
    assert federation.leader is None
    assert "leaderless" in kinds(federation)
    factories.make_agent(federation, "next", now=NOW)
    federation.refresh_from_db()
    assert federation.leader.name == "next"


def test_silence_past_the_time_out_is_loss_told_once():
    federation = factories.make_federation(agent_timeout_seconds=60)
    silent, loud = (
        factories.make_agent(federation, "silent", now=NOW),
        factories.make_agent(federation, "loud", now=NOW),
    )
    beat(loud, after(50))

    assert losses.lose_silent(now=after(60)) == []
    assert losses.lose_silent(now=after(61)) == [federation.pk]
    assert losses.lose_silent(now=after(62)) == []

    silent.refresh_from_db()
    assert silent.availability == "lost"
    assert silent in Agent.objects.members()
    assert kinds(federation).count("lost") == 1
    federation.refresh_from_db()
    assert federation.leader == loud
    with pytest.raises(agents.Gone, match="Register again"):
        beat(silent, after(63))


def crowd(size, **settings):
    """A federation in which each of so many agents runs a task and has another waiting, beside one that lives on."""
    federation = factories.make_federation(topology="star", **settings)
    keeper = factories.make_agent(federation, "keeper", now=NOW, max_concurrent_tasks=1000)
    agents.drain(agent=keeper, now=NOW)
    crew = [factories.make_agent(federation, f"a{n}", now=NOW, max_concurrent_tasks=2) for n in range(size)]
    for n in range(2 * size):
        factories.make_task(federation, now=NOW, max_attempts=1 + n // 2 % 2)
    dispatch.assign(federation_id=federation.pk, now=NOW, rng=Random(1))
    for agent in crew:
        dispatch.claim(agent=agent, now=NOW)
    agents.resume(agent=keeper, now=NOW)
    beat(keeper, after(60))
    federation.refresh_from_db()
    return federation, keeper


def test_many_that_fall_silent_at_once_are_lost_together(django_assert_max_num_queries):
    federation, keeper = crowd(12)
    before = federation.topology_version

    with django_assert_max_num_queries(30):  # the same for any number of them
        assert losses.lose_silent(now=after(61)) == [federation.pk]

    federation.refresh_from_db()
    assert (federation.topology_version, federation.leader) == (before + 1, keeper)
    reason = federation.versions.get(version=before + 1).reason
    assert reason == "12 agents were silent too long: lost a0, a1, a2 and 9 more. keeper leads, epoch 2."
    assert Agent.objects.filter(availability="lost").count() == 12
    assert not Attempt.objects.live().exists()
    found = [kinds(federation).count(kind) for kind in ("lost", "reassigned", "dead")]
    begun = Task.objects.filter(tries=1)
    dead = begun.filter(max_attempts=1).count()
    assert found == [12, 24, dead]
    assert set(begun.values_list("max_attempts", "state")) == {(1, "dead"), (2, "queued")}
    assert set(Task.objects.filter(tries=0).values_list("state", flat=True)) == {"queued"}
    assert (
        DeadLetter.objects.filter(reason="attempts", agent__in=Agent.objects.filter(availability="lost")).count()
        == dead
    )
    assert len(dispatch.assign(federation_id=federation.pk, now=after(61), rng=Random(1))) == 24 - dead


def test_losing_together_leaves_each_task_as_losing_alone_does():
    together, alone = crowd(3)[0], crowd(3)[0]
    Agent.objects.filter(federation=alone).update(last_heartbeat_at=after(61))

    assert losses.lose_silent(now=after(61)) == [together.pk]
    for attempt in Attempt.objects.live().filter(task__federation=alone).select_related("agent"):
        attempts.release(attempt=attempt, why=f"{attempt.agent} was lost.", now=after(61))

    def facts(federation):
        names = ("state", "tries", "reason", "error", "progress", "progress_note", "not_before", "finished_at", "epoch")
        rows = Task.objects.filter(federation=federation).order_by("created_at", "pk").values_list(*names)
        ended = Attempt.objects.filter(task__federation=federation).order_by("task")
        return list(rows), list(ended.values_list("state", "error", "ended_at", "answer"))

    assert facts(together) == facts(alone)


def test_a_heartbeat_in_the_last_moment_keeps_an_agent():
    federation = factories.make_federation()
    agent = factories.make_agent(federation, now=NOW)
    seen_silent = Agent.objects.get(pk=agent.pk)
    beat(agent, after(60.5))

    assert losses.lose(agent=seen_silent, now=after(61)) is False

    agent.refresh_from_db()
    assert agent.availability == "available"


def test_a_worker_beats_for_the_managed_agents():
    federation = factories.make_federation()
    managed = factories.make_agent(federation, "m", runtime="managed", now=NOW)
    factories.make_agent(federation, "r", now=NOW)

    for seconds in range(5, 100, 5):
        agents.beat_managed(now=after(seconds))

    assert losses.lose_silent(now=after(100)) == [federation.pk]
    managed.refresh_from_db()
    federation.refresh_from_db()
    assert (managed.availability, federation.leader, federation.epoch) == ("available", managed, 1)


def test_an_idle_product_pays_one_statement_for_its_heartbeats(django_assert_num_queries):
    with django_assert_num_queries(1):
        agents.beat_managed(now=NOW)
    with django_assert_num_queries(1):
        losses.lose_silent(now=NOW)
    with django_assert_num_queries(1):
        wiring.see_to_leaders(now=NOW)


def test_an_unavailable_agent_says_so_itself_and_comes_back():
    federation = factories.make_federation()
    agent = factories.make_agent(federation, now=NOW)

    beat(agent, after(1), status="unavailable")
    assert Agent.objects.with_running().get(pk=agent.pk).status == "unavailable"
    beat(agent, after(2), status="idle", load=0.4)

    found = Agent.objects.with_running().get(pk=agent.pk)
    assert (found.status, found.load) == ("idle", 0.4)


def test_a_deleted_federation_takes_nobody_on():
    federation = factories.make_federation()
    coordination.delete_federation(federation=federation, by=None, now=NOW)

    with pytest.raises(agents.Gone):
        factories.make_agent(federation)
    assert not Federation.objects.present().exists()


def test_the_token_stands_for_its_agent_only_by_its_digest():
    agent, token = factories.make_agent_with_token(factories.make_federation())

    assert agents.by_token(token) == agent
    assert agents.by_token(token + "x") is None
    assert token not in str(vars(agent))
