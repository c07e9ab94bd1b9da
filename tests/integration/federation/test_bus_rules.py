"""The stored bus does what the rules say, whatever is lost, doubled, delayed, killed or filled; and after every step
accepted = delivered + expired + dead + queued.
"""

import contextlib
from collections import Counter
from datetime import timedelta

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from federation import bus, coordination, history, store, wiring
from federation.models import Agent, DeadLetter, Message
from tests import factories
from tests.bus_model import BusModel

pytestmark = pytest.mark.django_db
START = timezone.now().replace(microsecond=0)
LIMIT, REDELIVERY = 6, 5
WHO = st.integers(0, 3)


class Killed(Exception):
    """What a process killed in the middle of a step does: nothing more."""


class Bus(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.federation = factories.make_federation(inbox_limit=LIMIT, redelivery_seconds=REDELIVERY)
        self.everyone = [factories.make_agent(self.federation, f"agent-{number}") for number in range(4)]
        self.model = BusModel([agent.pk for agent in self.everyone], LIMIT, REDELIVERY)
        self.members = list(self.everyone)
        self.known = {agent.pk: [] for agent in self.everyone}
        self.sent_once = {}

    @property
    def now(self):
        return START + timedelta(seconds=self.model.now)

    def one(self, who):
        return self.members[who % len(self.members)]

    def recipients(self, sender, to):
        others = [agent for agent in self.members if agent != sender]
        return others if to is None else [others[to % len(others)]]

    @precondition(lambda self: len(self.members) > 1)
    @rule(
        who=WHO,
        to=st.none() | WHO,
        number=st.integers(1, 8),
        priority=st.sampled_from([3, 5, 9]),
        ttl=st.sampled_from([4, 60]),
    )
    def send(self, who, to, number, priority, ttl):
        sender = self.one(who)
        recipients = self.recipients(sender, to)
        draft = bus.Draft(
            sender.pk, None if to is None else recipients[0].pk, payload="x", priority=priority, ttl_seconds=ttl
        )
        fits = self.model.fitting([agent.pk for agent in recipients], number)

        answers = bus.send_many(federation=self.federation, drafts=[draft] * number, now=self.now)

        assert [isinstance(each, bus.Receipt) for each in answers] == [True] * fits + [False] * (number - fits)
        assert all(isinstance(each, bus.InboxFull) for each in answers[fits:])
        ids = [str(each.id) for each in answers[:fits]]
        self.model.accept(ids, [agent.pk for agent in recipients], priority, ttl)

    @precondition(lambda self: len(self.members) > 1)
    @rule(who=WHO, to=WHO, name=st.sampled_from("ab"))
    def send_once(self, who, to, name):
        """The answer may be lost and the same message sent again: it is there once."""
        sender = self.one(who)
        (recipient,) = self.recipients(sender, to)
        draft = bus.Draft(sender.pk, recipient.pk, message_id=name, ttl_seconds=20)
        fits = self.model.fitting([recipient.pk], 1)

        (answer,) = bus.send_many(federation=self.federation, drafts=[draft], now=self.now)

        if name in self.sent_once:
            assert answer == self.sent_once[name]
        elif fits:
            self.sent_once[name] = answer
            self.model.accept([str(answer.id)], [recipient.pk], 5, 20)
        else:
            assert isinstance(answer, bus.InboxFull)

    @rule(who=WHO, most=st.sampled_from([1, 2, 9]))
    def take(self, who, most):
        """What is taken may never be acknowledged: its taker may have been killed."""
        agent = self.one(who)
        agent.federation = self.federation

        items = bus.receive(agent=agent, most=most, clock=lambda: self.now)

        assert [(item.id, item.delivery_count) for item in items] == self.model.take(agent.pk, most)
        self.known[agent.pk] += [item.id for item in items]

    @rule(who=WHO, whose=WHO, ids=st.lists(st.integers(0, 9), max_size=6))
    def acknowledge(self, who, whose, ids):
        """Also what is done with already, and what is somebody else's."""
        agent, known = self.one(who), self.known[self.one(whose).pk]
        chosen = [known[-1 - number] for number in ids if number < len(known)]

        done = bus.acknowledge(agent=agent, message_ids=chosen, now=self.now)

        assert done == self.model.acknowledge(agent.pk, chosen)

    @rule(seconds=st.sampled_from([1, 6, 6, 6, 60]))
    def wait(self, seconds):
        self.model.now += seconds

    @rule()
    def flush(self):
        history.flush_all(now=self.now)
        self.compare_history()

    @rule(at=st.sampled_from(["before the commit", "after the commit"]))
    def flusher_is_killed(self, at):
        """Between Redis and the database: what it did is undone, or what it did not drop is not written twice."""
        with pytest.MonkeyPatch.context() as patch:
            if at == "before the commit":
                patch.setattr(history, "_settle", _killed)
            else:
                patch.setattr(history, "_after", _killed)
            with contextlib.suppress(Killed):
                history.flush(now=self.now)

    @precondition(lambda self: self.model.letters)
    @rule(number=st.integers(0, 5))
    def replay(self, number):
        history.flush_all(now=self.now)
        letters = list(DeadLetter.objects.filter(federation=self.federation, replayed_at=None).order_by("pk"))
        if not letters:
            return
        letter = letters[number % len(letters)]
        body, to = letter.message, letter.agent_id
        both = [str(agent.pk) for agent in self.members]
        if str(to) not in both or body["from"] not in both:
            with pytest.raises(bus.UnknownAgent):
                coordination.replay(letter=letter, now=self.now)
        elif self.model.fitting([to], 1):
            found = coordination.replay(letter=letter, now=self.now)
            self.model.accept([str(found)], [to], body["priority"], body["ttl_seconds"])
        else:
            with pytest.raises(bus.InboxFull):
                coordination.replay(letter=letter, now=self.now)

    @precondition(lambda self: len(self.members) > 2)
    @rule(who=WHO)
    def evict(self, who):
        agent = self.one(who)
        self.members.remove(agent)
        Agent.objects.filter(pk=agent.pk).update(left_at=self.now)
        self.federation.refresh_from_db()
        wiring.rewire(federation=self.federation, why="Gone.", now=self.now)

        bus.close_inbox(agent=agent, now=self.now)

        self.model.evict(agent.pk)

    @invariant()
    def accounts_balance(self):
        self.model.expire()
        found = bus.accounting(federation=self.federation, now=self.now)
        counts = self.model.counts

        assert found.balances
        assert found.queued == self.model.queued
        assert found.queued == sum(bus.waiting_in_inbox(agent=agent) for agent in self.everyone)
        assert (found.accepted, found.delivered, found.expired, found.dead) == tuple(
            counts[name] for name in ("accepted", "delivered", "expired", "dead")
        )

    def compare_history(self):
        counts = Counter()
        for message in Message.objects.filter(federation=self.federation):
            counts["accepted"] += message.recipients
            for name in ("delivered", "expired", "dead"):
                counts[name] += getattr(message, name)
        assert counts == +self.model.counts
        letters = DeadLetter.objects.filter(federation=self.federation).values_list("agent", "reason")
        assert Counter(letters) == self.model.letters

    def teardown(self):
        history.flush_all(now=self.now)
        self.compare_history()
        assert store.client().xlen(store.bus_key("history")) == 0


def _killed(*given):
    raise Killed


def test_the_bus_keeps_its_rules():
    run_state_machine_as_test(
        Bus,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
