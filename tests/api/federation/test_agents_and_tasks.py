from datetime import timedelta
from random import Random

import pytest
from django.utils import timezone

from federation import dispatch
from federation.models import Agent, Task
from tests import factories

pytestmark = pytest.mark.django_db


def assign(federation):
    return dispatch.assign(federation_id=federation.pk, now=timezone.now(), rng=Random(1))


# Agents


def test_a_remote_agent_gets_its_token_once(api, federation):
    made = api.post(f"federations/{federation.pk}/agents", {"name": "anna", "runtime": "remote"})

    assert made.status_code == 201
    assert made.json()["token"].startswith("nta_")
    assert "token" not in api.get(f"agents/{made.json()['id']}").json()
    assert made.json()["token"] not in str(vars(Agent.objects.get()))


def test_a_managed_agent_has_no_token(api, federation):
    body = api.post(f"federations/{federation.pk}/agents", {"name": "anna", "capabilities": ["b", "a", "b"]}).json()

    assert (body["runtime"], body["token"], body["status"], body["load"]) == ("managed", None, "idle", 0.0)
    assert (body["capabilities"], body["weight"], body["max_concurrent_tasks"]) == (["a", "b"], 1, 5)


def test_more_than_max_agents_is_429_with_the_limit(api, account):
    federation = factories.make_federation(account, max_agents=1)
    factories.make_agent(federation)

    answer = api.post(f"federations/{federation.pk}/agents", {"name": "second"})

    assert (answer.status_code, answer.json()["code"], answer.json()["limit"]) == (429, "resource_limit_exceeded", 1)
    assert answer["Retry-After"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("public_key", "nonsense"), ("weight", -1), ("max_concurrent_tasks", 0), ("metadata", []), ("capabilities", "a")],
)
def test_a_wrong_field_of_an_agent_is_named(api, federation, field, value):
    answer = api.post(f"federations/{federation.pk}/agents", {"name": "x", field: value})

    assert (answer.status_code, list(answer.json()["errors"])) == (400, [field])


def test_agents_are_filtered_by_status_and_capability(api, federation):
    factories.make_agent(federation, "idle", capabilities=["trade"])
    busy = factories.make_agent(federation, "busy", capabilities=["research"])
    factories.make_task(federation, required_capabilities=["research"])
    assign(federation)

    def names(**query):
        return [agent["name"] for agent in api.get(f"federations/{federation.pk}/agents", **query).json()["results"]]

    assert names() == ["busy", "idle"]
    assert names(status="busy") == ["busy"]
    assert names(status="idle") == ["idle"]
    assert names(capability="trade") == ["idle"]
    assert api.get(f"federations/{federation.pk}/agents", status="gone").status_code == 400
    assert api.get(f"agents/{busy.pk}").json()["load"] == 0.2


def test_a_removed_agent_is_gone(api, federation, as_agent):
    agent, token = factories.make_agent_with_token(federation)

    assert api.delete(f"agents/{agent.pk}").status_code == 204

    assert api.get(f"agents/{agent.pk}").status_code == 410
    answer = as_agent(token).post(f"agents/{agent.pk}/heartbeat")
    assert (answer.status_code, answer.json()["code"]) == (410, "gone")
    assert "Register again" in answer.json()["detail"]
    assert api.get(f"federations/{federation.pk}/agents").json()["results"] == []


def test_a_token_is_good_only_for_its_own_agent(federation, as_agent, api):
    agent, token = factories.make_agent_with_token(federation, "anna")
    other = factories.make_agent(federation, "bert")
    caller = as_agent(token)

    assert caller.get(f"agents/{agent.pk}").status_code == 200
    assert caller.get(f"agents/{other.pk}").status_code == 404
    assert caller.post(f"agents/{other.pk}/heartbeat").status_code == 404
    assert caller.get("federations").status_code == 401
    assert caller.get(f"federations/{federation.pk}").status_code == 401
    assert caller.get("executions").status_code == 401
    assert as_agent("nta_unknown").post(f"agents/{agent.pk}/heartbeat").status_code == 401


# Tasks


def test_a_task_for_nobody_is_409_unless_it_may_queue(api, federation):
    refused = api.post(f"federations/{federation.pk}/tasks", {"type": "work"})
    queued = api.post(f"federations/{federation.pk}/tasks", {"type": "work", "queue_if_empty": True})

    assert (refused.status_code, refused.json()["code"]) == (409, "no_agents")
    assert (queued.status_code, queued.json()["state"]) == (201, "queued")


def test_a_task_answers_with_its_defaults(api, federation):
    factories.make_agent(federation)

    body = api.post(f"federations/{federation.pk}/tasks", {"type": "work", "payload": {"n": 1}}).json()

    assert (body["state"], body["priority"], body["max_attempts"], body["epoch"]) == ("queued", 5, 3, 0)
    assert (body["attempts"], body["result"], body["error"], body["assigned_to"]) == ([], None, "", None)
    assert (body["payload"], body["cost_credits"]) == ({"n": 1}, "0.000000")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("priority", 10),
        ("priority", -1),
        ("max_attempts", 0),
        ("deadline", "tomorrow"),
        ("deadline", "2026-01-01T00:00:00"),
        ("payload", "\x00"),
        ("strategy", "best"),
        ("type", ""),
        ("surprise", 1),
    ],
)
def test_a_wrong_field_of_a_task_is_named(api, federation, field, value):
    answer = api.post(f"federations/{federation.pk}/tasks", {"type": "work", "queue_if_empty": True, field: value})

    assert (answer.status_code, list(answer.json()["errors"])) == (400, [field])


def test_a_batch_answers_item_by_item_in_order(api, federation):
    factories.make_agent(federation)

    answer = api.post(
        f"federations/{federation.pk}/tasks/batch", {"tasks": [{"type": "a"}, {"type": 3}, {"type": "b"}]}
    )

    assert answer.status_code == 200
    first, wrong, last = answer.json()["results"]
    assert Task.objects.get(pk=first["id"]).type == "a"
    assert (wrong["code"], list(wrong["errors"])) == ("validation_error", ["type"])
    assert Task.objects.get(pk=last["id"]).type == "b"


def test_a_batch_has_one_to_a_thousand_items(api, federation):
    path = f"federations/{federation.pk}/tasks/batch"

    assert api.post(path, {"tasks": []}).status_code == 400
    assert api.post(path, {"tasks": [{"type": "a"}] * 1001}).status_code == 400


def test_the_same_idempotency_key_makes_one_task(api, federation):
    body = {"type": "work", "queue_if_empty": True}

    first = api.post(f"federations/{federation.pk}/tasks", body, **{"Idempotency-Key": "one"})
    again = api.post(f"federations/{federation.pk}/tasks", body, **{"Idempotency-Key": "one"})

    assert first.json()["id"] == again.json()["id"]
    assert Task.objects.count() == 1


def test_tasks_are_listed_newest_first_and_filtered(api, federation):
    for name in ("a", "b"):
        factories.make_task(federation, type=name)

    listed = api.get(f"federations/{federation.pk}/tasks").json()["results"]

    assert [task["type"] for task in listed] == ["b", "a"]
    assert "payload" not in listed[0]
    assert api.get(f"federations/{federation.pk}/tasks", type="a").json()["results"][0]["type"] == "a"
    assert api.get(f"federations/{federation.pk}/tasks", state="running").json()["results"] == []
    assert api.get(f"federations/{federation.pk}/tasks", state="asleep").status_code == 400
    assert api.get(f"federations/{federation.pk}/tasks", created_after="never").status_code == 400


def test_the_list_of_tasks_costs_the_same_however_many(api, federation, django_assert_max_num_queries):
    for _ in range(30):
        factories.make_task(federation)

    with django_assert_max_num_queries(9):
        assert len(api.get(f"federations/{federation.pk}/tasks").json()["results"]) == 30


def test_cancel_and_retry_go_back_and_forth(api, federation):
    task = factories.make_task(federation)

    assert api.post(f"tasks/{task.pk}/cancel").json()["state"] == "cancelled"
    again = api.post(f"tasks/{task.pk}/cancel")
    assert (again.status_code, again.json()["code"], again.json()["state"]) == (409, "conflict", "cancelled")
    assert api.post(f"tasks/{task.pk}/retry").json()["state"] == "queued"
    assert api.post(f"tasks/{task.pk}/retry").status_code == 409


# The doors of remote agents


def test_a_remote_agent_claims_extends_and_completes(api, federation, as_agent):
    agent, token = factories.make_agent_with_token(federation)
    task = factories.make_task(federation, payload={"n": 6})
    caller = as_agent(token)

    claimed = caller.post(f"agents/{agent.pk}/tasks/claim").json()
    extended = caller.post(f"tasks/{task.pk}/extend", {"epoch": claimed["epoch"], "progress": 0.5})
    done = caller.post(f"tasks/{task.pk}/complete", {"epoch": claimed["epoch"], "result": {"n": 42}})

    assert claimed["task"]["payload"] == {"n": 6}
    assert claimed["lease_expires_at"]
    assert extended.status_code == 200
    assert (done.json()["state"], done.json()["result"], done.json()["progress"]) == ("succeeded", {"n": 42}, 1.0)
    assert [attempt["state"] for attempt in done.json()["attempts"]] == ["succeeded"]


def test_nothing_to_claim_is_204(federation, as_agent):
    agent, token = factories.make_agent_with_token(federation)

    assert as_agent(token).post(f"agents/{agent.pk}/tasks/claim").status_code == 204
    assert as_agent(token).post(f"agents/{agent.pk}/tasks/claim?wait=61").status_code == 400


def test_the_same_completion_again_is_answered_the_same_and_another_is_409(federation, as_agent):
    agent, token = factories.make_agent_with_token(federation)
    task = factories.make_task(federation)
    caller = as_agent(token)
    caller.post(f"agents/{agent.pk}/tasks/claim")

    first = caller.post(f"tasks/{task.pk}/complete", {"epoch": 1, "result": 1})
    again = caller.post(f"tasks/{task.pk}/complete", {"epoch": 1, "result": 1})
    other = caller.post(f"tasks/{task.pk}/complete", {"epoch": 1, "result": 2})

    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json() == again.json()
    assert (other.status_code, other.json()["code"]) == (409, "conflict")


def test_a_stale_epoch_is_409_with_the_present_one(federation, as_agent):
    agent, token = factories.make_agent_with_token(federation)
    task = factories.make_task(federation)
    caller = as_agent(token)
    caller.post(f"agents/{agent.pk}/tasks/claim")
    caller.post(f"tasks/{task.pk}/fail", {"epoch": 1, "error": "tired"})
    Task.objects.update(not_before=timezone.now() - timedelta(seconds=1))
    caller.post(f"agents/{agent.pk}/tasks/claim")

    late = caller.post(f"tasks/{task.pk}/complete", {"epoch": 1, "result": "late"})

    assert (late.status_code, late.json()["code"], late.json()["epoch"]) == (409, "stale_epoch", 2)


def test_a_heartbeat_renews_what_is_running_and_stops_what_is_not(federation, as_agent, api):
    agent, token = factories.make_agent_with_token(federation)
    peer = factories.make_agent(federation, "peer")
    task = factories.make_task(federation)
    caller = as_agent(token)
    caller.post(f"agents/{agent.pk}/tasks/claim")
    beat = {"status": "busy", "load": 0.5, "running": [{"task": str(task.pk), "epoch": 1, "progress": 0.1}]}

    alive = caller.post(f"agents/{agent.pk}/heartbeat", beat).json()
    api.post(f"tasks/{task.pk}/cancel")
    stopped = caller.post(f"agents/{agent.pk}/heartbeat", beat).json()

    assert (alive["cancel"], alive["neighbours"], alive["epoch"]) == ([], [str(peer.pk)], 1)
    assert stopped["cancel"] == [str(task.pk)]
    assert api.get(f"agents/{agent.pk}").json()["load"] == 0.5


def test_F1_an_agent_keeps_its_name_and_is_idle(api, federation):
    body = api.post(f"federations/{federation.pk}/agents", {"name": "agent-1"}).json()

    assert (body["name"], body["status"]) == ("agent-1", "idle")


def test_F2_a_task_keeps_its_priority_and_has_no_assignee(api, federation):
    body = api.post(f"federations/{federation.pk}/tasks", {"type": "t", "priority": 5, "queue_if_empty": True}).json()

    assert (body["priority"], body["assigned_to"]) == (5, None)


def test_F7_no_agents_and_a_task_is_an_error(api, account):
    federation = factories.make_federation(account, strategy="round_robin")

    assert api.post(f"federations/{federation.pk}/tasks", {"type": "work"}).status_code == 409


def test_F8_a_fresh_federation_has_no_tasks(api, federation):
    assert api.get(f"federations/{federation.pk}").json()["tasks"] == {}
