"""What people see and may do on the pages."""

from datetime import timedelta
from random import Random

import pytest
from django.urls import reverse
from django.utils import timezone

from federation import attempts, bus, dispatch, history
from federation.models import Agent, Event, Federation, Message, Task
from tests import factories

pytestmark = pytest.mark.django_db
TABS = ("federation", "agents", "tasks", "results", "memory", "messages", "events", "settings", "versions")


@pytest.fixture
def account():
    return factories.make_account()


@pytest.fixture
def alice(client, account):
    client.force_login(account.memberships.get(role="owner").user)
    return client


@pytest.fixture
def federation(account):
    return factories.make_federation(account, topology="hierarchical", fan_out=2)


def busy(federation, count=6):
    """Agents with tasks in several states, and messages."""
    agents = [factories.make_agent(federation, f"agent-{n}", capabilities=["trade"]) for n in range(count)]
    tasks = [factories.make_task(federation, payload={"n": n}) for n in range(count)]
    made = dispatch.assign(federation_id=federation.pk, now=timezone.now(), rng=Random(1))
    attempts.complete(task_id=made[0].task_id, epoch=1, result={"n": 1}, now=timezone.now())
    attempts.fail(task_id=made[1].task_id, epoch=1, error="<b>boom</b>", retryable=False, now=timezone.now())
    for agent in agents[1:]:
        bus.send(
            federation=federation, draft=bus.Draft(agents[0].pk, agent.pk, payload="<i>hi</i>"), now=timezone.now()
        )
    history.flush_all(now=timezone.now())
    return agents, tasks


def address(account, name, *arguments):
    return reverse(f"federation:{name}", args=[account, *arguments])


@pytest.mark.parametrize("tab", TABS)
def test_every_tab_answers_empty_and_full(alice, account, federation, tab):
    assert alice.get(address(account, tab, federation.pk)).status_code == 200

    busy(federation)

    page = alice.get(address(account, tab, federation.pk))
    assert page.status_code == 200
    assert b"<b>boom" not in page.content
    assert b"<i>hi" not in page.content


@pytest.mark.parametrize("tab", TABS)
def test_a_tab_costs_the_same_however_much_there_is(alice, account, federation, tab, django_assert_max_num_queries):
    busy(federation, 12)

    with django_assert_max_num_queries(22):
        alice.get(address(account, tab, federation.pk))


def test_the_list_of_federations_costs_the_same_however_many(alice, account, django_assert_max_num_queries):
    for n in range(10):
        factories.make_agent(factories.make_federation(account, name=f"f{n}"))

    with django_assert_max_num_queries(15):
        page = alice.get(address(account, "federations"))

    assert b"f9" in page.content


def test_details_answer_as_page_part_and_row(alice, account, federation):
    agents, tasks = busy(federation)

    for name, pk in (("agent", agents[0].pk), ("task", tasks[0].pk), ("task", tasks[1].pk)):
        page = alice.get(address(account, name, pk))
        part = alice.get(address(account, name, pk), headers={"HX-Request": "true"})
        row = alice.get(address(account, f"{name}-row", pk))
        assert (page.status_code, part.status_code, row.status_code) == (200, 200, 200)
        assert b"<html" in page.content
        assert b"<html" not in part.content
        assert row.content.strip().startswith(b"<tr")
    drawer = alice.get(address(account, "agent", agents[0].pk), {"drawer": "1"})
    assert b"<html" not in drawer.content


def test_the_graph_is_a_snapshot_with_a_tag(alice, account, federation):
    busy(federation, 4)
    url = address(account, "graph", federation.pk)

    answer = alice.get(url)

    snapshot = answer.json()
    assert snapshot["topology"] == "hierarchical"
    assert snapshot["links"] == [[0, 1], [0, 2], [1, 3]]
    assert snapshot["columns"] == ["id", "name", "role", "status", "load", "level", "x", "y"]
    assert dict(zip(snapshot["columns"], snapshot["nodes"][0], strict=True))["role"] == "leader"
    assert alice.get(url, headers={"If-None-Match": answer["ETag"]}).status_code == 304


def test_the_head_of_a_page_is_a_piece_of_its_own(alice, account, federation):
    busy(federation, 4)

    piece = alice.get(address(account, "facts", federation.pk))

    assert b"<html" not in piece.content
    assert b"4 agents" in piece.content


def test_making_a_federation_and_agents_and_a_task(alice, account):
    form = {"name": "mine", "topology": "star", "strategy": "random", "max_agents": "2"}
    made = alice.post(address(account, "new"), form)
    federation = Federation.objects.get()
    assert made["Location"] == address(account, "agents", federation.pk)

    agent = {
        "name": "anna",
        "runtime": "managed",
        "capabilities": "trade, research",
        "max_concurrent_tasks": "1",
        "weight": "1",
    }
    alice.post(address(account, "agent-new", federation.pk), agent)
    token = alice.post(address(account, "agent-new", federation.pk), {**agent, "name": "bert", "runtime": "remote"})
    full = alice.post(address(account, "agent-new", federation.pk), {**agent, "name": "one too many"})
    assert Agent.objects.get(name="anna").capabilities == ["research", "trade"]
    assert b"nta_" in token.content
    assert full.status_code == 422

    task = {"type": "execute", "payload": '{"code": "print(1)"}', "priority": "5", "max_attempts": "3"}
    submitted = alice.post(address(account, "task-new", federation.pk), task)
    assert submitted["Location"] == address(account, "task", Task.objects.get().pk)


@pytest.mark.parametrize("payload", ["{", '{"code": ""}', '{"code": "x", "colour": 1}', "[]", '{"code": "\\u0000"}'])
def test_a_task_with_a_bad_payload_is_shown_again(alice, account, federation, payload):
    factories.make_agent(federation)
    form = {"type": "execute", "payload": payload, "priority": "5", "max_attempts": "3"}

    assert alice.post(address(account, "task-new", federation.pk), form).status_code == 422
    assert not Task.objects.exists()


def test_a_strategy_of_ones_own_becomes_a_task(alice, account, federation):
    factories.make_agent(federation, runtime="managed")
    url = address(account, "strategy-new", federation.pk)
    template = alice.get(url).context["form"]["code"].value()

    answer = alice.post(url, {"name": "mine", "symbols": ["AAPL"], "code": template})

    task = Task.objects.get()
    assert answer["Location"] == address(account, "task", task.pk)
    assert (task.type, task.payload["symbols"], task.payload["code"]) == ("strategy", ["AAPL"], template)


@pytest.mark.parametrize(
    ("code", "words"),
    [("def positions(prices:\n", "line 1"), ("x = 1", "Define a function"), ("", "required")],
)
def test_a_strategy_that_cannot_run_is_refused_with_the_reason(alice, account, federation, code, words):
    factories.make_agent(federation, runtime="managed")

    answer = alice.post(
        address(account, "strategy-new", federation.pk), {"name": "mine", "symbols": ["AAPL"], "code": code}
    )

    assert answer.status_code == 422
    assert words in answer.content.decode()


def test_a_task_for_nobody_says_so_on_the_form(alice, account, federation):
    form = {"type": "work", "payload": "", "priority": "5", "max_attempts": "3"}

    answer = alice.post(address(account, "task-new", federation.pk), form)

    assert answer.status_code == 422
    assert b"The federation has no agents" in answer.content


def test_switching_the_topology_goes_to_the_drawing(alice, account, federation):
    initial = alice.get(address(account, "settings", federation.pk)).context["form"].initial

    answer = alice.post(address(account, "settings", federation.pk), {**initial, "topology": "ring"})

    assert answer["Location"] == address(account, "federation", federation.pk)
    federation.refresh_from_db()
    assert federation.topology == "ring"
    assert Event.objects.filter(kind="rewired").exists()


def test_cancelling_in_a_row_answers_the_row(alice, account, federation):
    task = factories.make_task(federation)

    answer = alice.post(address(account, "task-cancel", task.pk), headers={"HX-Request": "true"})

    assert b"Cancelled" in answer.content
    again = alice.post(address(account, "task-cancel", task.pk))
    assert again.status_code == 302


def test_sending_a_message_from_the_page(alice, account, federation):
    one, two = factories.make_agent(federation, "one"), factories.make_agent(federation, "two")
    form = {"sender": one.pk, "recipient": two.pk, "type": "custom", "payload": '{"n": 1}', "ttl_seconds": "60"}

    alice.post(address(account, "messages", federation.pk), form)

    history.flush_all(now=timezone.now())
    assert Message.objects.get().payload == {"n": 1}
    oneself = alice.post(address(account, "messages", federation.pk), {**form, "recipient": one.pk})
    assert oneself.status_code == 422


@pytest.mark.parametrize(
    ("sender", "said"),
    [
        ("one", ""),
        ("nobody", "There is no agent nobody here."),
        ("twin", "Several agents are called twin."),
        ("", "This field is required."),
    ],
)
def test_an_agent_is_named_as_people_call_it(alice, account, federation, sender, said):
    for name in ("one", "two", "twin", "twin"):
        factories.make_agent(federation, name)

    form = {"sender": sender, "recipient": "two", "type": "custom", "ttl_seconds": "60"}
    answer = alice.post(address(account, "messages", federation.pk), form)

    assert answer.status_code == (422 if said else 302)
    assert said in answer.content.decode()


def test_the_page_of_messages_offers_the_first_agents_that_fit_and_lists_none(alice, account, federation):
    for number in range(25):
        factories.make_agent(federation, f"scout-{number:02}")
    factories.make_agent(federation, "chief")

    offered = alice.get(address(account, "agent-names", federation.pk), {"of": "sender", "sender": "SCOUT-1"})

    assert offered.content.decode().count("<option") == 10
    everyone = alice.get(address(account, "agent-names", federation.pk), {"of": "agent"})
    assert everyone.content.decode().count("<option") == 20
    assert b"scout-" not in alice.get(address(account, "messages", federation.pk)).content


def test_messages_are_found_by_text_agent_type_and_state(alice, account, federation):
    one, two = factories.make_agent(federation, "one"), factories.make_agent(federation, "two")
    for payload, kind in (("buy AAPL", "custom"), ("sell MSFT", "error")):
        draft = bus.Draft(one.pk, two.pk, kind, payload, durable=True)
        bus.send(federation=federation, draft=draft, now=timezone.now())

    def shown(**query):
        body = alice.get(address(account, "messages", federation.pk), query).content.decode()
        return [text in body for text in ("buy AAPL", "sell MSFT")]

    assert (
        shown()
        == shown(agent=two.pk)
        == shown(agent="two")
        == shown(agent="tw")
        == shown(state="queued")
        == shown(state="nonsense")
        == [True, True]
    )
    assert shown(q="aapl") == shown(type="custom") == [True, False]
    assert shown(state="dead") == shown(agent=federation.pk) == shown(agent="three") == [False, False]


def test_the_page_shows_that_the_accounts_of_messages_balance(alice, account, federation):
    one, two = factories.make_agent(federation, "one"), factories.make_agent(federation, "two")
    bus.send(federation=federation, draft=bus.Draft(one.pk, two.pk), now=timezone.now())

    body = alice.get(address(account, "messages", federation.pk)).content.decode()

    assert "1 accepted = 0 delivered + 0 expired + 0 dead + 1 queued" in body


def test_all_dead_letters_are_replayed_from_the_page(alice, client, account, federation):
    one, two = factories.make_agent(federation, "one"), factories.make_agent(federation, "two")
    now = timezone.now()
    bus.send(federation=federation, draft=bus.Draft(one.pk, two.pk, ttl_seconds=1), now=now - timedelta(seconds=9))
    bus.expire(federation_id=federation.pk, now=now)
    history.flush_all(now=now)
    assert b"Replay all" in alice.get(address(account, "messages", federation.pk)).content

    alice.post(address(account, "letters-replay", federation.pk))

    assert bus.waiting_in_inbox(agent=two) == 1
    assert b"Replay all" not in alice.get(address(account, "messages", federation.pk)).content
    client.force_login(factories.make_viewer(account))
    assert client.post(address(account, "letters-replay", federation.pk)).status_code == 403


def test_closing_a_federation(alice, account, federation):
    alice.post(address(account, "delete", federation.pk))

    assert alice.get(address(account, "federation", federation.pk)).status_code == 404


def test_a_viewer_sees_everything_and_changes_nothing(client, account, federation):
    agents, tasks = busy(federation)
    client.force_login(factories.make_viewer(account))

    for tab in TABS:
        assert client.get(address(account, tab, federation.pk)).status_code == 200
    for name in ("agent-new", "task-new", "strategy-new", "messages", "settings", "delete"):
        assert client.post(address(account, name, federation.pk), {}).status_code == 403
    assert client.post(address(account, "task-cancel", tasks[0].pk)).status_code == 403
    for name in ("agent-remove", "agent-drain", "agent-edit"):
        assert client.post(address(account, name, agents[0].pk)).status_code == 403
    assert client.get(address(account, "new")).status_code == 403


def test_an_outsider_finds_nothing(client, account, federation):
    _, tasks = busy(federation)
    charlie = factories.make_user("Charlie")
    others = factories.make_account(charlie)
    client.force_login(charlie)

    assert client.get(address(account, "federations")).status_code == 404
    assert client.get(address(others, "federation", federation.pk)).status_code == 404
    assert client.get(address(others, "task", tasks[0].pk)).status_code == 404


def test_lists_page_forth_and_back(alice, account, federation):
    for n in range(60):
        factories.make_task(federation, type=f"t{n}")

    first = alice.get(address(account, "tasks", federation.pk)).context["page"]
    second = alice.get(first.next_url).context["page"]
    back = alice.get(second.previous_url).context["page"]

    assert ([task.type for task in first.results[:2]], len(first.results)) == (["t59", "t58"], 50)
    assert ([task.type for task in second.results[-1:]], second.next_url) == (["t0"], None)
    assert back.results == first.results


def test_filters_of_the_tasks(alice, account, federation):
    busy(federation)

    page = alice.get(address(account, "tasks", federation.pk), {"state": "failed"}).context["page"]
    nonsense = alice.get(address(account, "tasks", federation.pk), {"state": "asleep", "agent": "x"})

    assert [task.state for task in page.results] == ["failed"]
    assert nonsense.status_code == 200


def test_results_rank_what_can_be_read(alice, account, federation, backtest_result):
    factories.make_agent(federation)
    for key, sharpe in (("a", 0.5), ("b", 1.5)):
        task = factories.make_task(federation, type="backtest")
        dispatch.assign(federation_id=federation.pk, now=timezone.now(), rng=Random(1))
        attempts.complete(task_id=task.pk, epoch=1, result=backtest_result(key, sharpe), now=timezone.now())
    odd = factories.make_task(federation, type="backtest")
    dispatch.assign(federation_id=federation.pk, now=timezone.now(), rng=Random(1))
    attempts.complete(task_id=odd.pk, epoch=1, result={"forged": True}, now=timezone.now())

    page = alice.get(address(account, "results", federation.pk))

    table = page.context["table"]
    assert [row.found.key for row in table.ranked] == ["b", "a"]
    assert table.unreadable == 1
    # Drawn wide and narrow; the stylesheet shows one.
    assert page.content.count(b'<svg class="chart"') == 2
    detail = alice.get(address(account, "task", table.ranked[0].task.pk))
    assert b'<svg class="chart"' in detail.content


def test_the_page_of_the_topology_shows_what_the_agents_found(alice, account, federation, backtest_result):
    where, brief = address(account, "federation", federation.pk), address(account, "results", federation.pk) + "?brief"
    assert brief.encode() not in alice.get(where).content
    factories.make_agent(federation)
    task = factories.make_task(federation, type="backtest")
    assert brief.encode() in alice.get(where).content
    assert b"1 backtest to come" in alice.get(brief, headers={"HX-Request": "true"}).content
    dispatch.assign(federation_id=federation.pk, now=timezone.now(), rng=Random(1))
    attempts.complete(task_id=task.pk, epoch=1, result=backtest_result("momentum", 0.5), now=timezone.now())

    part = alice.get(brief, headers={"HX-Request": "true"}).content.decode()

    assert "1 backtest of 1 strategy, shared out over 1 agent." in part
    assert "Momentum, n 1" in part
    assert part.count('<svg class="chart"') == 2
    assert "<html" not in part
