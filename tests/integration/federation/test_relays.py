"""Relayed delivery: hop by hop, each agent on the way takes the message and passes it on by acknowledging it."""

from datetime import timedelta

import pytest
from django.utils import timezone

from federation import bus, history, wiring
from federation.models import Agent, DeadLetter, Federation
from tests import factories

pytestmark = pytest.mark.django_db
NOW = timezone.now()


def make(size=6, topology="ring", runtime="remote", **changes):
    federation = factories.make_federation(topology=topology, delivery="relayed", **changes)
    members = [factories.make_agent(federation, f"agent-{number}", runtime=runtime) for number in range(size)]
    federation.refresh_from_db()
    return federation, members


def send(federation, sender, recipient=None, **changes):
    draft = bus.Draft(sender.pk, recipient.pk if recipient else None, **changes)
    return bus.send(federation=federation, draft=draft, now=NOW)


def take(agent, now=NOW):
    agent = Agent.objects.select_related("federation").get(pk=agent.pk)
    return bus.receive(agent=agent, most=100, clock=lambda: now)


def pass_on(agent, now=NOW):
    """Take and acknowledge whatever is there; how many messages went on or arrived."""
    agent = Agent.objects.select_related("federation").get(pk=agent.pk)
    items = bus.receive(agent=agent, most=100, clock=lambda: now)
    return bus.acknowledge(agent=agent, message_ids=[item.id for item in items], now=now)


def accounts(federation, now=NOW):
    found = bus.accounting(federation=federation, now=now)
    assert found.balances
    return (found.accepted, found.delivered, found.expired, found.dead, found.queued)


def lose(agent, availability="lost"):
    change(agent, availability=availability)


def change(agent, **changes):
    """As whoever joins, leaves or is lost does: the federation's wiring is a version more."""
    Agent.objects.filter(pk=agent.pk).update(**changes)
    wiring.rewire(federation=Federation.objects.get(pk=agent.federation_id), why="Changed.", now=NOW)


def letters():
    history.flush_all(now=NOW)
    return [(letter.reason, letter.agent) for letter in DeadLetter.objects.order_by("pk")]


def test_a_message_goes_from_inbox_to_inbox_and_counts_once():
    federation, members = make()

    receipt = send(federation, members[0], members[2])

    assert receipt.hops == 2
    assert take(members[2]) == []
    (item,) = take(members[1])
    assert (item.relay_to, item.hops) == (str(members[2].pk), 1)
    assert accounts(federation) == (1, 0, 0, 0, 1)
    assert bus.acknowledge(agent=members[1], message_ids=[item.id], now=NOW) == 1
    assert accounts(federation) == (1, 0, 0, 0, 1)
    (item,) = take(members[2])
    assert (item.relay_to, item.path) == (None, [str(each.pk) for each in members[:3]])
    assert bus.acknowledge(agent=members[2], message_ids=[item.id], now=NOW) == 1
    assert accounts(federation) == (1, 1, 0, 0, 0)


def test_managed_agents_pass_on_at_once():
    federation, members = make(runtime="managed")

    send(federation, members[0], members[2])

    assert [item.hops for item in take(members[2])] == [2]


def test_a_broadcast_reaches_everyone_through_those_on_the_way():
    federation, members = make(5)

    send(federation, members[0])
    rounds = 0
    while accounts(federation)[4]:
        rounds += 1
        for member in members:
            pass_on(member)

    assert accounts(federation) == (4, 4, 0, 0, 0)
    assert rounds <= 3


def test_a_message_ends_after_its_hops():
    federation, members = make(max_hops=2)

    send(federation, members[0], members[3])
    assert (pass_on(members[1]), pass_on(members[2])) == (1, 1)

    assert accounts(federation) == (1, 0, 0, 1, 0)
    assert letters() == [("hops", members[3])]


def test_relayed_messages_have_the_specifications_limit_unless_another_is_set():
    federation, members = make(14, runtime="managed")

    send(federation, members[0], members[5])
    send(federation, members[0], members[6])

    assert accounts(federation) == (2, 0, 0, 1, 1)
    assert letters() == [("hops", members[6])]


def turned_round(**changes):
    """A message from 0 to 4 of a ring of eight that came to 1 when the other way round became shorter."""
    federation, members = make(8, **changes)
    send(federation, members[0], members[4])
    for number in (5, 6, 7):
        lose(members[number])
    assert pass_on(members[1]) == 1
    return federation, members


def test_where_the_topology_changes_a_message_turns_round():
    federation, members = turned_round()

    assert pass_on(members[0]) == 1

    assert [item.path for item in take(members[4])] == [[str(members[number].pk) for number in (0, 1, 0, 4)]]


def test_going_back_and_forth_is_a_loop():
    federation, members = turned_round()
    for number in (5, 6, 7):
        lose(members[number], "available")

    assert pass_on(members[0]) == 1

    assert letters() == [("loop", members[4])]
    assert accounts(federation) == (1, 0, 0, 1, 0)


def test_an_agent_that_dies_with_a_message_holds_it_up_until_it_is_lost(django_capture_on_commit_callbacks):
    federation, members = make()
    send(federation, members[0], members[2])
    take(members[1])

    lose(members[1])
    assert bus.reroute(agent=members[1], now=NOW) == 1

    # From 0 the ring now goes to 2 directly.
    assert [item.path for item in take(members[2])] == [[str(members[0].pk), str(members[2].pk)]]
    assert bus.reroute(agent=members[1], now=NOW) == 0


def test_what_is_for_a_lost_agent_waits_where_it_is():
    federation, members = make()
    send(federation, members[0], members[2])
    lose(members[2])

    assert pass_on(members[1]) == 0
    lose(members[2], "available")

    assert pass_on(members[1], NOW + timedelta(seconds=31)) == 1
    assert len(take(members[2])) == 1


def test_what_lost_agents_carry_is_found_by_the_sweep():
    federation, members = make()
    send(federation, members[0], members[2])
    lose(members[1])

    bus.see_to(federation_id=federation.pk, now=NOW)

    assert len(take(members[2])) == 1


def test_what_an_agent_that_left_carried_goes_another_way_and_its_own_is_dead():
    federation, members = make()
    send(federation, members[0], members[2])
    send(federation, members[0], members[1])
    change(members[1], left_at=NOW)

    bus.close_inbox(agent=members[1], now=NOW)

    assert accounts(federation) == (2, 0, 0, 1, 1)
    assert letters() == [("undeliverable", members[1])]
    assert len(take(members[2])) == 1


def test_a_full_inbox_on_the_way_keeps_the_message_where_it_is():
    federation, members = make(inbox_limit=1)
    send(federation, members[0], members[2])
    send(federation, members[3], members[2], payload="first")

    assert pass_on(members[1]) == 0
    assert pass_on(members[2]) == 1
    assert pass_on(members[1], NOW + timedelta(seconds=31)) == 1

    assert accounts(federation) == (2, 1, 0, 0, 1)


def test_a_message_expires_on_its_way():
    federation, members = make()
    send(federation, members[0], members[2], ttl_seconds=10)
    (item,) = take(members[1])

    later = NOW + timedelta(seconds=10)
    assert bus.acknowledge(agent=members[1], message_ids=[item.id], now=later) == 0

    assert accounts(federation, later) == (1, 0, 1, 0, 0)
    assert letters() == [("expired", members[2])]
