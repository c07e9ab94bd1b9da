"""A task's page with its dependencies, time and progress; dead tasks sent on; what is remembered."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.urls import reverse
from django.utils import timezone

from federation import attempts, coordination, dispatch, memory
from federation.models import Task
from ntd_site import formats
from tests import factories

pytestmark = pytest.mark.django_db
NOW = timezone.now()


@pytest.fixture
def account():
    return factories.make_account()


@pytest.fixture
def alice(client, account):
    client.force_login(account.memberships.get(role="owner").user)
    return client


@pytest.fixture
def federation(account):
    return factories.make_federation(account)


@pytest.fixture
def agent(federation):
    return factories.make_agent(federation, "anna", now=NOW)


def address(account, name, *arguments):
    return reverse(f"federation:{name}", args=[account, *arguments])


def read(client, path):
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def test_a_task_shows_what_it_needs_and_what_needs_it(alice, account, federation):
    orders = [
        coordination.Order(type="first", key="a", queue_if_empty=True),
        coordination.Order(type="<b>middle", key="b", depends_on=["a"], queue_if_empty=True),
        coordination.Order(type="last", depends_on=["b"], queue_if_empty=True),
    ]
    first, middle, last = coordination.submit_tasks(federation=federation, orders=orders, by="Alice", now=NOW)

    page = read(alice, address(account, "task", middle.pk))

    assert all(address(account, "task", task.pk) in page for task in (first, middle, last))
    assert "&lt;b&gt;middle" in page
    assert "<b>middle" not in page
    assert f"It waits for the task {first.pk} to succeed." in page
    assert 'id="family-title"' not in read(alice, address(account, "task", factories.make_task(federation).pk))


def test_a_task_shows_its_attempts_as_bars_and_how_far_it_is(alice, account, federation, agent):
    began = NOW - timedelta(seconds=100)
    task = factories.make_task(federation, now=began)
    first = dispatch.claim(agent=agent, now=began + timedelta(seconds=5))
    attempts.fail(task_id=task.pk, epoch=1, error="boom", retryable=True, now=began + timedelta(seconds=9))
    dispatch.claim(agent=agent, now=began + timedelta(seconds=60))
    attempts.extend(
        task_id=task.pk,
        agent_id=first.agent_id,
        epoch=2,
        progress=0.25,
        note="fitting <i>",
        now=began + timedelta(seconds=61),
    )

    page = read(alice, address(account, "task", task.pk))

    assert page.count('class="lane-running"') == 2
    assert "running 4\N{NO-BREAK SPACE}s" in page
    assert formats.percent(0.25) in page
    assert "fitting &lt;i&gt;" in page
    row = read(alice, address(account, "task-row", task.pk))
    assert "fitting &lt;i&gt;" in row


def test_dead_tasks_are_found_and_replayed(alice, account, federation, agent):
    task = factories.make_task(federation, max_attempts=1, now=NOW)
    dispatch.claim(agent=agent, now=NOW)
    attempts.fail(task_id=task.pk, epoch=1, error="boom", retryable=True, now=NOW)
    factories.make_task(federation, type="other")

    listed = read(alice, address(account, "tasks", federation.pk))
    dead = read(alice, address(account, "tasks", federation.pk) + "?state=dead")

    assert 'href="?state=dead"' in listed
    assert "Replay" in dead
    assert "other" not in dead.split("<tbody>")[1]
    alice.post(address(account, "task-retry", task.pk))
    assert Task.objects.get(pk=task.pk).state == "queued"


def test_the_form_takes_dependencies_a_deadline_and_a_strategy(alice, account, federation):
    needed = factories.make_task(federation)
    path, said = address(account, "task-new", federation.pk), {"type": "work", "payload": "{}", "priority": 5}
    said |= {"max_attempts": 3, "queue_if_empty": "on", "strategy": "random", "deadline": "2999-01-01T10:00"}

    wrong = alice.post(path, {**said, "depends_on": "nobody"})
    foreign = alice.post(path, {**said, "depends_on": "01a21863-78d6-7199-bc80-4b2fa7f724b8"})
    made = alice.post(path, {**said, "depends_on": str(needed.pk)})

    assert (wrong.status_code, foreign.status_code, made.status_code) == (422, 422, 302)
    assert b"There is no task" in foreign.content
    task = Task.objects.exclude(pk=needed.pk).get()
    assert (task.is_waiting, task.strategy, task.deadline.year) == (True, "random", 2999)


def remember(federation, key, value, **item):
    return memory.write(
        federation=federation, name="notes", key=key, item=memory.Item(value, **item), by="anna", now=NOW
    )


def test_memory_is_browsed_by_namespace_and_prefix(alice, account, federation):
    for key in ("a:1", "a:2", "b:1"):
        remember(federation, key, f"<b>{key}")
    path = address(account, "memory", federation.pk)

    page = read(alice, path + "?namespace=notes&q=a:")

    assert "a:1" in page
    assert "b:1" not in page
    assert "&lt;b&gt;a:1" in page
    assert "Nothing matches" in read(alice, path + "?q=zzz")


def test_an_entry_shows_its_versions_and_what_is_near(alice, account, federation):
    remember(federation, "first", "old", embedding=[1.0, 0.0])
    remember(federation, "first", "new", embedding=[1.0, 0.0], metadata={"topic": "x"})
    remember(federation, "second", "else", embedding=[0.0, 1.0])

    page = read(alice, address(account, "memory-entry", federation.pk, "notes", "first"))

    assert "version 2" in page
    assert "old" in page
    assert "second" in page or "pgvector" in page
    missing = address(account, "memory-entry", federation.pk, "notes", "third")
    assert alice.get(missing).status_code == 404


def test_listing_memory_costs_the_same_however_much(alice, account, federation, django_assert_max_num_queries):
    for n in range(20):
        remember(federation, f"k{n}", n)

    with django_assert_max_num_queries(18):
        read(alice, address(account, "memory", federation.pk))


LINE = {"symbol": "IBM", "close": 175.27, "up": True, "score": 0.4, "chance_up": 0.6}
PREDICTED = {"model": str(uuid4()), "kind": "logistic", "horizon": 5, "day": "2013-03-01", "predictions": [LINE]}


@pytest.mark.parametrize(
    ("type", "result", "said"),
    [
        ("infer", PREDICTED, ["1 of 1 rise in the 5 days", "IBM", ">Up<", "60.0\xa0%", "All of it as JSON"]),
        ("infer", {**PREDICTED, "day": "<b>"}, ["&lt;b&gt;", "All of it as JSON"]),
        ("execute", {"exit_code": 3, "stdout": "<b>42"}, ["exit code 3", "&lt;b&gt;42"]),
        ("price", {"fair_value": 12.5}, ["<dt>Fair value</dt><dd>12.5</dd>"]),
        ("price", {"deep": {"<b>": 1}}, ["&lt;b&gt;", "<details", " open>"]),
    ],
)
def test_a_result_says_what_it_means_and_never_more_than_it_is(alice, account, federation, type, result, said):
    task = factories.make_task(federation)
    Task.objects.filter(pk=task.pk).update(type=type, state="succeeded", result=result, finished_at=NOW)

    page = read(alice, address(account, "task", task.pk))

    assert all(words in page for words in said)
    assert "<b>" not in page
