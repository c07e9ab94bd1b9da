"""What open pages hear, and what staff see in the admin."""

from random import Random

import pytest
from channels.layers import get_channel_layer
from django.urls import reverse
from django.utils import timezone

from federation import attempts, coordination, dispatch, store
from tests import factories

pytestmark = pytest.mark.django_db
ADMIN = (
    "federation", "agent", "task", "dependency", "sitting", "message", "deadletter", "event", "memorynamespace", "memoryentry",
)  # fmt: skip


@pytest.fixture
def heard(monkeypatch):
    """Everything said on the live layer: (account, topics, data)."""
    said = []
    monkeypatch.setattr(
        get_channel_layer(), "nudge", lambda account, topics, data=None: said.append((account, topics, data))
    )
    return said


def topics(heard):
    return {topic for _, names, _ in heard for topic in names}


def test_nothing_is_said_of_what_was_rolled_back(heard, django_capture_on_commit_callbacks):
    federation = factories.make_federation()

    factories.make_agent(federation)

    assert heard == []


def test_joining_redraws_the_topology_for_its_own_account(heard, django_capture_on_commit_callbacks):
    federation = factories.make_federation()

    with django_capture_on_commit_callbacks(execute=True):
        factories.make_agent(federation)

    assert {f"topology-{federation.pk}", f"federation-{federation.pk}", "federations"} <= topics(heard)
    assert {account for account, _, _ in heard} == {federation.account_id}


def test_a_change_of_load_is_a_small_change_of_the_drawing(heard, django_capture_on_commit_callbacks):
    federation = factories.make_federation()
    agent = factories.make_agent(federation)
    task = factories.make_task(federation)
    version = store.graph_version(federation.pk)

    with django_capture_on_commit_callbacks(execute=True):
        dispatch.assign(federation_id=federation.pk, now=timezone.now(), rng=Random(1))

    (change,) = [found for _, _, found in heard if found]
    assert change == {"v0": version, "v": version + 1, "nodes": [[str(agent.pk), "busy", 0.2]]}
    assert {f"tasks-{federation.pk}", f"task-{task.pk}", f"agent-{agent.pk}"} <= topics(heard)


def test_a_finished_backtest_refreshes_the_results(heard, django_capture_on_commit_callbacks):
    federation = factories.make_federation()
    agent = factories.make_agent(federation)
    factories.make_task(federation, type="backtest")
    attempt = dispatch.claim(agent=agent, now=timezone.now())

    with django_capture_on_commit_callbacks(execute=True):
        attempts.complete(task_id=attempt.task_id, epoch=1, result=1, now=timezone.now())

    assert f"results-{federation.pk}" in topics(heard)


def test_rewiring_redraws(heard, django_capture_on_commit_callbacks):
    federation = factories.make_federation()

    with django_capture_on_commit_callbacks(execute=True):
        coordination.change_federation(federation=federation, changes={"topology": "ring"}, by=None, now=timezone.now())

    assert f"topology-{federation.pk}" in topics(heard)


@pytest.mark.parametrize("model", ADMIN)
def test_staff_look_at_everything_and_change_nothing(client, model):
    federation = factories.make_federation()
    agent = factories.make_agent(federation)
    task = factories.make_task(federation)
    client.force_login(factories.make_user("Stella", is_staff=True, is_superuser=True))

    assert client.get(reverse(f"admin:federation_{model}_changelist")).status_code == 200
    assert client.get(reverse(f"admin:federation_{model}_add")).status_code == 403
    for name, row in (("federation", federation), ("agent", agent), ("task", task)):
        page = client.get(reverse(f"admin:federation_{name}_change", args=[row.pk]))
        assert page.status_code == 200
        assert b'name="_save"' not in page.content
