"""The shape's stored history, what a large mesh lists, and draining, by the API."""

import pytest
from django.utils import timezone

from federation import dispatch
from federation.models import Agent, Event, Task
from tests import factories

pytestmark = pytest.mark.django_db


def topology(api, federation):
    return api.get(f"federations/{federation.pk}/topology").json()


def test_history_lists_the_versions_the_newest_first(api, federation):
    factories.make_agent(federation, "anna")
    api.patch(f"federations/{federation.pk}", {"topology": "ring"})

    body = topology(api, federation)

    newest = body["history"][0]
    assert set(newest) == {"version", "shape", "members", "epoch", "reason", "figures", "at"}
    assert (newest["version"], newest["shape"], newest["members"]) == (body["topology_version"], "ring", 1)
    assert newest["reason"].endswith("re-wired mesh to ring.")
    assert [each["version"] for each in body["history"]] == [3, 2, 1]


def test_a_mesh_of_many_lists_six_links_each_and_routes_along_them(api, account):
    federation = factories.make_federation(account, max_agents=100)
    now = timezone.now()
    Agent.objects.bulk_create(
        Agent(federation=federation, name=f"m{n}", position=100 + n, last_heartbeat_at=now, created_at=now)
        for n in range(69)
    )
    one = str(factories.make_agent(federation, "last").pk)

    body = topology(api, federation)

    assert (len(body["nodes"]), len(body["links"]), body["metrics"]["links"]) == (70, 210, 210)
    linked = {other for pair in body["links"] if one in pair for other in pair} - {one}
    far = next(node["id"] for node in body["nodes"] if node["id"] not in linked | {one})
    path = api.get(f"federations/{federation.pk}/route", **{"from": one, "to": far}).json()["path"]
    pairs = {frozenset(pair) for pair in body["links"]}
    assert 2 < len(path) <= body["metrics"]["diameter"] + 1
    assert all(frozenset(step) in pairs for step in zip(path, path[1:], strict=False))


def test_draining_is_a_change_that_can_be_taken_back(api, federation):
    agent = factories.make_agent(federation)

    drained = api.patch(f"agents/{agent.pk}", {"draining": True})
    listed = api.get(f"federations/{federation.pk}/agents", status="draining").json()["results"]
    back = api.patch(f"agents/{agent.pk}", {"draining": False})

    assert (drained.status_code, drained.json()["draining"], drained.json()["status"]) == (200, True, "idle")
    assert [each["id"] for each in listed] == [str(agent.pk)]
    assert back.json()["draining"] is False
    assert Event.objects.filter(kind="draining").count() == 1


@pytest.mark.parametrize("body", [{"draining": "yes"}, {"draining": None}, {"drain": True}])
def test_nonsense_about_draining_is_refused(api, federation, body):
    agent = factories.make_agent(federation)

    assert api.patch(f"agents/{agent.pk}", body).status_code == 400


def test_a_new_agent_does_not_begin_by_draining(api, federation):
    answer = api.post(f"federations/{federation.pk}/agents", {"name": "x", "draining": True})

    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["draining"])


def test_when_done_it_finishes_first(api, federation, as_agent):
    agent, token = factories.make_agent_with_token(federation)
    factories.make_task(federation)
    attempt = dispatch.claim(agent=agent, now=timezone.now())

    assert api.delete(f"agents/{agent.pk}?when_done=true").status_code == 204

    assert api.get(f"agents/{agent.pk}").json()["draining"] is True
    done = as_agent(token).post(f"tasks/{attempt.task_id}/complete", {"epoch": 1, "result": 1})
    assert done.status_code == 200
    assert Task.objects.get().state == "succeeded"
    assert api.delete(f"agents/{agent.pk}?when_done=maybe").status_code == 400


def test_an_evicted_agent_is_gone_for_its_token_and_its_tasks_wait_for_others(api, federation, as_agent):
    agent, token = factories.make_agent_with_token(federation)
    factories.make_task(federation)
    dispatch.claim(agent=agent, now=timezone.now())

    assert api.delete(f"agents/{agent.pk}").status_code == 204

    beat = as_agent(token).post(f"agents/{agent.pk}/heartbeat", {})
    assert (beat.status_code, beat.json()["code"]) == (410, "gone")
    assert Task.objects.get().state == "queued"


def test_another_accounts_agent_is_not_found(charlie, federation):
    agent = factories.make_agent(federation)

    assert charlie.patch(f"agents/{agent.pk}", {"draining": True}).status_code == 404
    assert charlie.delete(f"agents/{agent.pk}").status_code == 404


def test_many_heartbeats_are_each_answered_as_alone(api, federation):
    hub, leaf = factories.make_agent(federation, "hub"), factories.make_agent(federation, "leaf")
    stranger = factories.make_agent(factories.make_federation(), "stranger")
    gone = factories.make_agent(federation, "gone")
    api.delete(f"agents/{gone.pk}")
    beats = [
        {"agent": str(leaf.pk), "load": 0.5},
        {"agent": str(stranger.pk)},
        {"agent": str(gone.pk)},
        {"agent": str(hub.pk), "load": 2},
        {"agent": str(hub.pk), "status": "unavailable"},
    ]

    answer = api.post(f"federations/{federation.pk}/heartbeats", {"heartbeats": beats})

    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [each.get("status") for each in results] == [None, 404, 410, 400, None]
    assert results[0] == {"topology_version": 5, "epoch": 1, "cancel": [], "neighbours": [str(hub.pk)]}
    assert Agent.objects.get(pk=leaf.pk).reported_load == 0.5
    assert Agent.objects.get(pk=hub.pk).availability == "unavailable"


@pytest.mark.parametrize("body", [{}, {"heartbeats": []}, {"heartbeats": [{}] * 1001}, {"heartbeats": "x"}])
def test_a_batch_of_heartbeats_has_a_shape(api, federation, body):
    assert api.post(f"federations/{federation.pk}/heartbeats", body).status_code == 400


def test_an_agents_token_beats_only_for_itself(as_agent, federation):
    agent, token = factories.make_agent_with_token(federation)

    answer = as_agent(token).post(f"federations/{federation.pk}/heartbeats", {"heartbeats": [{"agent": str(agent.pk)}]})

    assert answer.status_code == 401
