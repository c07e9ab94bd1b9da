"""Handlers of managed agents: kept by version, and their tasks run as executions of them."""

from datetime import timedelta
from random import Random

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from federation import coordination, dispatch, handlers, managed
from federation.models import Agent, Attempt, Handler, Task
from sandboxes import claims, executor
from sandboxes.models import Execution
from sandboxes.runtimes import Artifact
from tests import factories
from tests.scripted import outcome

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("runtime")]
CODE = "def handle(payload):\n    return payload\n"


@pytest.fixture
def federation():
    return factories.make_federation()


def add(federation, name="anna", **handler):
    wanted = {"code": CODE, **handler}
    return coordination.add_agent(federation=federation, name=name, handler=wanted, by="Alice", now=timezone.now())[0]


def change(agent, **wanted):
    return coordination.change_agent(agent=agent, handler=wanted, by="Bob", now=timezone.now())


def work(federation):
    for attempt in dispatch.assign(federation_id=federation.pk, now=timezone.now(), rng=Random(1)):
        managed.start(attempt_id=attempt.pk, now=timezone.now())
    while execution := claims.claim(now=timezone.now() + timedelta(seconds=60)):
        executor.run(execution=execution, clock=timezone.now)
    for pk in Execution.objects.values_list("pk", flat=True):
        managed.advance(execution_id=pk, now=timezone.now())


def test_a_change_is_a_new_version_and_keeps_what_it_does_not_name(federation):
    agent = add(federation, timeout_seconds=5)

    change(agent, code=CODE + "\n", types=["b", "a", "b"])
    change(agent, types=["a", "b"])

    assert list(Handler.objects.order_by("version").values_list("version", "timeout_seconds", "created_by")) == [
        (1, 5.0, "Alice"),
        (2, 5.0, "Bob"),
    ]
    agent.refresh_from_db()
    assert (agent.handler.version, agent.handler.types) == (2, ["a", "b"])


def test_without_a_handler_again_its_versions_stay(federation):
    agent = add(federation)

    coordination.change_agent(agent=agent, handler=None, now=timezone.now())
    change(agent, code=CODE)

    assert (Agent.objects.get().handler.version, Handler.objects.count()) == (2, 2)


def test_a_refused_handler_leaves_no_agent_behind(federation):
    with pytest.raises(handlers.BadHandler):
        add(federation, code="def handle(")

    assert Agent.objects.count() == 0


def test_the_database_gives_handlers_to_managed_agents_only(federation):
    agent = add(federation)

    with pytest.raises(IntegrityError), transaction.atomic():
        Agent.objects.filter(pk=agent.pk).update(runtime="remote")


def test_a_task_of_ones_own_type_runs_in_the_handler(federation, runtime):
    agent = add(federation, timeout_seconds=7, limits={"memory_mb": 128})
    runtime.script = lambda request: outcome(artifacts=(Artifact("result.json", request.files["payload.json"]),))
    task = factories.make_task(federation, type="price", payload={"n": 1})

    work(federation)

    task.refresh_from_db()
    execution = Execution.objects.get()
    assert (task.state, task.result) == ("succeeded", {"n": 1})
    assert (execution.metadata["handler"], execution.timeout_seconds, execution.agent) == ("1", 7.0, str(agent.pk))
    assert (execution.limits["memory_mb"], execution.network) == (128, False)
    assert execution.file_contents()["handler.py"].decode() == CODE


def test_built_in_types_stay_what_they_are(federation, runtime):
    add(federation)
    factories.make_task(federation, type="execute", payload={"code": "print(1)"})

    work(federation)

    assert Execution.objects.get().code == "print(1)"


def test_tasks_go_to_the_agent_whose_handler_knows_their_type(federation):
    anna, bert = add(federation, "anna", types=["price"]), add(federation, "bert", types=["risk"])
    factories.make_agent(federation, "plain", runtime="managed")
    tasks = {type: factories.make_task(federation, type=type) for type in ("price", "risk", "other", "mcp.tool")}

    dispatch.assign(federation_id=federation.pk, now=timezone.now(), rng=Random(1))

    found = {type: Task.objects.get(pk=task.pk) for type, task in tasks.items()}
    assert (found["price"].assigned_to, found["risk"].assigned_to) == (anna, bert)
    assert found["other"].reason == "No available agent runs tasks of the type other. The task starts when one joins."
    assert found["mcp.tool"].state == "queued"


def test_a_handler_for_any_type_takes_no_calls_of_tools(federation):
    add(federation)
    mine, call = factories.make_task(federation, type="mine"), factories.make_task(federation, type="mcp.tool")

    dispatch.assign(federation_id=federation.pk, now=timezone.now(), rng=Random(1))

    assert (Task.objects.get(pk=mine.pk).state, Task.objects.get(pk=call.pk).state) == ("assigned", "queued")


def test_a_handler_taken_away_meanwhile_fails_the_task_with_words(federation):
    agent = add(federation)
    factories.make_task(federation, type="mine")
    dispatch.assign(federation_id=federation.pk, now=timezone.now(), rng=Random(1))
    coordination.change_agent(agent=agent, handler=None, now=timezone.now())

    managed.start(attempt_id=Attempt.objects.get().pk, now=timezone.now())

    assert (Task.objects.get().state, Task.objects.get().error) == (
        "failed", "This agent has no handler for tasks of the type mine.",
    )  # fmt: skip
