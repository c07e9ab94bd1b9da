"""Messages: along the topology, at least once, in order, bounded, and always accounted for."""

from datetime import timedelta

import pytest
from django.utils import timezone

from federation import agents, attempts, bus, coordination, dispatch, history, packs, store
from federation.models import DeadLetter, Message, traffic
from tests import factories

pytestmark = pytest.mark.django_db
NOW = timezone.now()


def after(seconds):
    return NOW + timedelta(seconds=seconds)


@pytest.fixture
def federation():
    return factories.make_federation()


@pytest.fixture
def pair(federation):
    return factories.make_agent(federation, "one"), factories.make_agent(federation, "two")


def send(federation, sender, recipient=None, now=NOW, **changes):
    draft = bus.Draft(sender.pk, recipient.pk if recipient else None, **changes)
    return bus.send(federation=federation, draft=draft, now=now)


def receive(agent, now=NOW, most=100):
    return bus.receive(agent=agent, most=most, clock=lambda: now)


def payloads(items):
    return [item.message["payload"] for item in items]


def accounts(federation, now=NOW):
    found = bus.accounting(federation=federation, now=now)
    return (found.accepted, found.delivered, found.expired, found.dead, found.queued)


def test_messages_arrive_in_the_order_they_were_sent(federation, pair):
    one, two = pair
    for n in range(20):
        send(federation, one, two, payload=n)

    assert payloads(receive(two, most=12)) == list(range(12))
    assert payloads(receive(two)) == list(range(12, 20))


@pytest.mark.parametrize("topology", ["mesh", "ring", "star", "hierarchical", "adaptive"])
def test_a_broadcast_reaches_every_other_member_once_along_links(topology):
    federation = factories.make_federation(topology=topology, fan_out=2)
    members = [factories.make_agent(federation, f"agent-{n}") for n in range(7)]
    federation.refresh_from_db()

    receipt = send(federation, members[3])

    shape = federation.shaped(members)
    assert receipt.recipients == 6
    assert receive(members[3]) == []
    for member in members[:3] + members[4:]:
        (item,) = receive(member)
        path = [next(each.pk for each in members if str(each.pk) == step) for step in item.path]
        assert (path[0], path[-1]) == (members[3].pk, member.pk)
        assert all(there in shape.neighbours(here) for here, there in zip(path, path[1:], strict=False))
        assert item.hops <= receipt.hops


def test_what_is_not_acknowledged_comes_again_ahead_of_newer_ones(federation, pair):
    one, two = pair
    send(federation, one, two, payload="old")
    assert [item.delivery_count for item in receive(two)] == [1]
    send(federation, one, two, payload="new")

    assert payloads(receive(two, after(29))) == ["new"]
    again = receive(two, after(31))

    assert payloads(again) == ["old"]
    assert again[0].delivery_count == 2


def test_an_acknowledged_message_never_comes_again(federation, pair):
    one, two = pair
    receipt = send(federation, one, two)
    receive(two)

    assert bus.acknowledge(agent=two, message_ids=[receipt.id], now=NOW) == 1
    assert bus.acknowledge(agent=two, message_ids=[receipt.id], now=NOW) == 0

    assert receive(two, after(3600)) == []
    assert accounts(federation) == (1, 1, 0, 0, 0)


def test_only_the_recipient_can_acknowledge(federation, pair):
    one, two = pair
    receipt = send(federation, one, two)
    receive(two)

    assert bus.acknowledge(agent=one, message_ids=[receipt.id], now=NOW) == 0


def test_a_message_expires_by_the_servers_clock_whether_offered_or_not(federation, pair):
    one, two = pair
    send(federation, one, two, ttl_seconds=10, payload="offered")
    receive(two)
    send(federation, one, two, ttl_seconds=10, payload="waiting")
    send(federation, one, two, ttl_seconds=100, payload="lives")

    assert payloads(receive(two, after(31))) == ["lives"]
    assert accounts(federation, after(31)) == (3, 0, 2, 0, 1)
    history.flush_all(now=after(31))
    assert list(DeadLetter.objects.values_list("reason", flat=True)) == ["expired", "expired"]


def test_accounts_know_of_expiry_though_nobody_looks(federation, pair):
    send(federation, *pair, ttl_seconds=10)

    assert accounts(federation, after(10)) == (1, 0, 1, 0, 0)
    assert bus.federations_with_messages() == []


def test_the_sweep_finds_federations_with_messages(federation, pair):
    send(federation, *pair)

    assert bus.federations_with_messages() == [federation.pk]
    bus.expire(federation_id=federation.pk, now=NOW)
    assert bus.federations_with_messages() == [federation.pk]


def test_a_full_inbox_refuses_and_accepts_nothing():
    federation = factories.make_federation(inbox_limit=2)
    one, two = factories.make_agent(federation, "one"), factories.make_agent(federation, "two")
    for _ in range(2):
        receipt = send(federation, one, two)

    with pytest.raises(bus.InboxFull):
        send(federation, one, two)
    receive(two)
    bus.acknowledge(agent=two, message_ids=[receipt.id], now=NOW)
    send(federation, one, two)

    assert accounts(federation) == (3, 1, 0, 0, 2)


def test_a_broadcast_passes_a_full_inbox_by_with_a_dead_letter():
    federation = factories.make_federation(inbox_limit=1)
    one, two, three = (factories.make_agent(federation, name) for name in ("one", "two", "three"))
    send(federation, one, two)

    send(federation, one)

    assert accounts(federation) == (3, 0, 0, 1, 2)
    history.flush_all(now=NOW)
    letter = DeadLetter.objects.get()
    assert (letter.reason, letter.agent) == ("full", two)


def test_urgent_messages_come_first_and_equals_in_order(federation, pair):
    one, two = pair
    for payload, priority in (("low", 1), ("plain", 5), ("also plain", 5), ("urgent", 9)):
        send(federation, one, two, payload=payload, priority=priority)

    assert payloads(receive(two)) == ["urgent", "plain", "also plain", "low"]


def test_a_pack_taken_in_parts_keeps_its_order_when_it_comes_again(federation, pair):
    one, two = pair
    bus.send_many(federation=federation, drafts=[bus.Draft(one.pk, two.pk, payload=n) for n in range(6)], now=NOW)

    first, second = receive(two, most=2), receive(two, most=1)
    bus.acknowledge(agent=two, message_ids=[first[0].id], now=NOW)
    rest = receive(two)
    again = receive(two, after(31), most=4)

    assert [payloads(items) for items in (first, second, rest)] == [[0, 1], [2], [3, 4, 5]]
    assert [(item.message["payload"], item.delivery_count) for item in again] == [(1, 2), (2, 2), (3, 2), (4, 2)]
    assert payloads(receive(two, after(31))) == [5]
    assert accounts(federation) == (6, 1, 0, 0, 5)


def test_a_pack_is_accepted_as_far_as_there_is_room():
    federation = factories.make_federation(inbox_limit=3)
    one, two, three = (factories.make_agent(federation, name) for name in ("one", "two", "three"))
    drafts = [bus.Draft(one.pk, two.pk, payload=n) for n in range(5)] + [bus.Draft(one.pk, three.pk, payload="other")]

    answers = bus.send_many(federation=federation, drafts=drafts, now=NOW)

    assert [isinstance(answer, bus.InboxFull) for answer in answers] == [False] * 3 + [True] * 2 + [False]
    assert payloads(receive(two)) == [0, 1, 2]
    assert payloads(receive(three)) == ["other"]


def test_a_message_id_is_answered_the_same_wherever_it_comes_again(federation, pair):
    one, two = pair
    once = bus.Draft(one.pk, two.pk, message_id="once")

    first, other, again = bus.send_many(federation=federation, drafts=[once, bus.Draft(one.pk, two.pk), once], now=NOW)

    assert first == again != other
    assert accounts(federation) == (2, 0, 0, 0, 2)


@pytest.mark.parametrize("payload", ["a\x00b", "\ud800", "x" * 300_000])
def test_what_the_database_cannot_keep_is_refused_and_holds_up_nobody(federation, pair, payload):
    one, two = pair
    drafts = [bus.Draft(one.pk, two.pk, payload=payload), bus.Draft(one.pk, two.pk, payload="good")]

    refused, accepted = bus.send_many(federation=federation, drafts=drafts, now=NOW)
    history.flush_all(now=NOW)

    assert isinstance(refused, packs.UnfitPayload | packs.PayloadTooLarge)
    assert Message.objects.get().pk == accepted.id


def test_what_the_database_refuses_all_the_same_holds_up_nobody(federation, pair, caplog):
    one, two = pair
    for kind in ("custom", "no such type", "custom"):
        send(federation, one, two, type=kind)

    history.flush_all(now=NOW)

    assert Message.objects.count() == 2
    assert "cannot be written" in caplog.text
    assert store.client().xlen(store.bus_key("history")) == 0


def test_a_node_whose_clock_is_an_hour_wrong_loses_nothing(federation, pair):
    """What expires an hour early by one node's clock is counted and kept as a dead letter; what it sent balances."""
    one, two = pair
    send(federation, one, two, ttl_seconds=7200, payload="long")
    send(federation, one, two, ttl_seconds=60, payload="short")
    send(federation, one, two, now=after(-3600), ttl_seconds=60, payload="from the past")

    assert payloads(receive(two, after(3600))) == ["long"]
    assert accounts(federation) == (3, 0, 2, 0, 1)
    history.flush_all(now=NOW)
    assert {letter.message["payload"] for letter in DeadLetter.objects.all()} == {"short", "from the past"}


def test_a_dead_letter_without_its_agent_is_not_replayed_to_everyone(federation, pair):
    send(federation, pair[0])
    bus.close_inbox(agent=pair[1], now=NOW)
    history.flush_all(now=NOW)
    DeadLetter.objects.update(agent=None)

    with pytest.raises(bus.UnknownAgent):
        coordination.replay(letter=DeadLetter.objects.get(), now=NOW)

    assert DeadLetter.objects.get().replayed_at is None


def test_a_replay_cut_off_before_its_commit_is_sent_once(federation, pair):
    one, two = pair
    send(federation, one, two, ttl_seconds=1)
    accounts(federation, after(2))
    history.flush_all(now=after(2))
    letter = DeadLetter.objects.select_related("federation").get()

    coordination.replay(letter=letter, now=after(3))
    DeadLetter.objects.update(replayed_at=None)
    coordination.replay(letter=letter, now=after(3))

    assert accounts(federation, after(3)) == (2, 0, 1, 0, 1)


def test_all_dead_letters_are_replayed_each_for_itself():
    federation = factories.make_federation(inbox_limit=2)
    one, two = factories.make_agent(federation, "one"), factories.make_agent(federation, "two")
    for moment in (NOW, after(10)):
        for _ in range(2):
            send(federation, one, two, now=moment, ttl_seconds=1)
    accounts(federation, after(20))
    history.flush_all(now=after(20))

    found = coordination.replay_all(federation=federation, now=after(20))

    assert found == coordination.Replays(replayed=2, refused=2)
    assert DeadLetter.objects.filter(replayed_at=None).count() == 2
    assert coordination.replay_all(federation=federation, now=after(20), reason="full").refused == 0


@pytest.mark.parametrize(
    ("outcome", "ends"),
    [("queued", {}), ("delivered", {"delivered": 1}), ("expired", {"expired": 1}), ("dead", {"dead": 1}),
     ("late_reply", {"expired": 1, "late_reply": True})],
)  # fmt: skip
def test_an_outcome_is_told_the_same_in_python_and_in_sql(federation, pair, outcome, ends):
    receipt = send(federation, *pair, durable=True)
    Message.objects.filter(pk=receipt.id).update(**ends)

    assert Message.objects.get().outcome == outcome
    for each in traffic.OUTCOMES:
        assert Message.objects.in_outcome(each).exists() == (each == outcome)


def test_strangers_neither_send_nor_receive(federation, pair):
    stranger = factories.make_agent(factories.make_federation(), "stranger")

    with pytest.raises(bus.UnknownAgent, match="`to`"):
        send(federation, pair[0], stranger)
    with pytest.raises(bus.UnknownAgent, match="`from`"):
        send(federation, stranger, pair[0])


def test_what_waits_for_an_agent_that_leaves_becomes_dead_letters(federation, pair, django_capture_on_commit_callbacks):
    one, two = pair
    send(federation, one, two)

    with django_capture_on_commit_callbacks(execute=True):
        agents.leave(agent=two, now=NOW)

    assert accounts(federation) == (1, 0, 0, 1, 0)
    history.flush_all(now=NOW)
    assert DeadLetter.objects.get().reason == "undeliverable"


def test_the_history_is_written_once_whatever_is_flushed_twice(federation, pair):
    one, two = pair
    receipt = send(federation, one, two)
    receive(two)
    bus.acknowledge(agent=two, message_ids=[receipt.id], now=NOW)
    kept = store.client().xrange(store.bus_key("history"))

    history.flush_all(now=NOW)
    # As after a crash between the commit and the clean-up: the entries are there again.
    store.client().delete(store.bus_key("history"))
    for entry_id, fields in kept:
        store.client().xadd(store.bus_key("history"), fields, id=entry_id)
    history.flush_all(now=NOW)

    message = Message.objects.get()
    assert (message.recipients, message.delivered, message.outcome) == (1, 1, "delivered")


def test_the_history_outlives_a_federation_that_is_gone(federation, pair):
    send(federation, *pair)
    federation.delete()
    other = factories.make_federation()
    send(other, factories.make_agent(other, "a"), factories.make_agent(other, "b"))

    history.flush_all(now=NOW)

    assert Message.objects.get().federation == other


def test_a_durable_message_is_in_the_database_when_it_is_accepted(federation, pair):
    receipt = send(federation, *pair, durable=True)

    assert Message.objects.get().pk == receipt.id


def test_waiting_ends_when_a_message_is_there(federation, pair):
    one, two = pair
    send(federation, one, two)

    assert len(bus.receive(agent=two, most=1, wait_seconds=5, clock=lambda: NOW)) == 1
    assert bus.receive(agent=one, most=1, wait_seconds=0.05, clock=lambda: NOW) == []


def test_many_are_sent_in_one_go_and_each_is_answered(federation, pair):
    one, two = pair
    drafts = [bus.Draft(one.pk, two.pk, payload=n) for n in range(50)] + [bus.Draft(one.pk, one.pk)]

    answers = bus.send_many(federation=federation, drafts=drafts, now=NOW)

    assert isinstance(answers[-1], bus.ToOneself)
    assert payloads(receive(two)) == list(range(50))


def test_a_dead_letter_of_a_task_queues_it_afresh(federation):
    agent = factories.make_agent(federation)
    factories.make_task(federation, max_attempts=1)
    attempt = dispatch.claim(agent=agent, now=timezone.now())
    attempts.fail(task_id=attempt.task_id, epoch=1, error="no", retryable=True, now=timezone.now())

    coordination.replay(letter=DeadLetter.objects.get(), now=timezone.now())

    attempt.task.refresh_from_db()
    assert attempt.task.state == "queued"
    with pytest.raises(coordination.Replayed):
        coordination.replay(letter=DeadLetter.objects.get(), now=timezone.now())
