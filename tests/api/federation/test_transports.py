"""The promises to remote agents, each over REST and over the socket: one table, two transports."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from federation import agents, attempts, coordination
from federation.models import Agent, Attempt, Task
from tests import factories

pytestmark = pytest.mark.django_db
NOBODY = str(uuid4())


def held(federation, caller, **changes):
    """A task that the agent has claimed."""
    task = factories.make_task(federation, **changes)
    status, claimed = caller.ask("claim")
    assert (status, claimed["task"]["id"]) == (200, str(task.pk))
    return task, claimed["epoch"]


def test_hello_says_what_to_keep_to(join, federation):
    agent, caller = join()

    status, said = caller.ask("hello")

    assert (status, said["agent"]["id"], said["running"]) == (200, str(agent.pk), [])
    assert (said["heartbeat_seconds"], said["lease_seconds"], said["agent_timeout_seconds"]) == (10, 30, 60)


def test_hello_gives_back_a_task_whose_claim_was_never_heard(join, federation):
    _, caller = join()
    task, epoch = held(federation, caller, payload={"n": 1})

    _, said = caller.ask("hello")

    assert [(each["task"]["id"], each["epoch"]) for each in said["running"]] == [(str(task.pk), epoch)]
    assert said["running"][0]["task"]["payload"] == {"n": 1}


def test_hello_is_a_sign_of_life(join, federation):
    agent, caller = join()
    Agent.objects.filter(pk=agent.pk).update(
        availability="unavailable", last_heartbeat_at=timezone.now() - timedelta(seconds=50)
    )

    caller.ask("hello")

    assert Agent.objects.available().get().last_heartbeat_at > timezone.now() - timedelta(seconds=5)


def test_a_claimed_task_is_extended_and_completed(join, federation):
    _, caller = join()
    task, epoch = held(federation, caller)

    extended = caller.ask("extend", {"epoch": epoch, "progress": 0.5}, task=task.pk)
    done = caller.ask("complete", {"epoch": epoch, "result": {"n": 42}}, task=task.pk)

    assert (extended[0], extended[1]["epoch"]) == (200, epoch)
    assert (done[0], done[1]["state"], done[1]["result"]) == (200, "succeeded", {"n": 42})
    assert caller.ask("task", task=task.pk)[1]["state"] == "succeeded"


def test_the_same_completion_again_is_answered_the_same_and_another_is_409(join, federation):
    _, caller = join()
    task, epoch = held(federation, caller)

    first, again, other = (caller.ask("complete", {"epoch": epoch, "result": n}, task=task.pk) for n in (1, 1, 2))

    assert first == again
    assert (other[0], other[1]["code"], other[1]["state"]) == (409, "conflict", "succeeded")


def test_a_stale_epoch_is_409_with_the_present_one_and_what_came_late_is_kept(join, federation):
    _, caller = join()
    task, epoch = held(federation, caller)
    attempts.release(attempt=Attempt.objects.get(), why="The lease ran out.", now=timezone.now())
    Task.objects.update(not_before=timezone.now() - timedelta(seconds=1))
    assert caller.ask("claim")[1]["epoch"] == epoch + 1

    late = caller.ask("complete", {"epoch": epoch, "result": "late"}, task=task.pk)

    assert (late[0], late[1]["code"], late[1]["epoch"]) == (409, "stale_epoch", epoch + 1)
    assert Attempt.objects.get(epoch=epoch).answer == {"result": "late"}
    assert Task.objects.get().state == "running"


@pytest.mark.parametrize(("retryable", "state"), [(True, "queued"), (False, "failed")])
def test_a_failure_is_tried_again_when_that_may_help(join, federation, retryable, state):
    _, caller = join()
    task, epoch = held(federation, caller)

    status, said = caller.ask("fail", {"epoch": epoch, "error": "no", "retryable": retryable}, task=task.pk)

    assert (status, said["state"], said["error"]) == (200, state, "no")


def test_a_heartbeat_renews_and_says_what_to_stop(join, federation):
    _, caller = join()
    peer = factories.make_agent(federation, "peer")
    task, epoch = held(federation, caller)
    Attempt.objects.update(lease_expires_at=timezone.now() + timedelta(seconds=1))
    beat = {"status": "busy", "load": 0.5, "running": [{"task": str(task.pk), "epoch": epoch, "progress": 0.1}]}

    _, alive = caller.ask("heartbeat", beat)
    renewed = Attempt.objects.get().lease_expires_at
    coordination.cancel_task(task=task, now=timezone.now())
    _, stopped = caller.ask("heartbeat", beat)

    assert (alive["cancel"], alive["neighbours"], alive["epoch"]) == ([], [str(peer.pk)], 1)
    assert renewed > timezone.now() + timedelta(seconds=25)
    assert stopped["cancel"] == [str(task.pk)]


def test_a_message_arrives_once_it_is_acknowledged_no_more(join, federation):
    _, anna = join("anna")
    bert, caller = join("bert")

    sent = anna.ask("send", {"to": str(bert.pk), "payload": {"n": 1}, "message_id": "one"})
    again = anna.ask("send", {"to": str(bert.pk), "payload": {"n": 1}, "message_id": "one"})
    _, inbox = caller.ask("inbox", max=10)
    done = caller.ask("ack", {"ids": [item["id"] for item in inbox["results"]]})

    assert (sent[0], again[1]["id"]) == (201, sent[1]["id"])
    assert [(item["payload"], item["delivery_count"]) for item in inbox["results"]] == [({"n": 1}, 1)]
    assert done == (200, {"acknowledged": 1})
    assert caller.ask("inbox") == (200, {"results": []})


def test_many_messages_are_accepted_or_refused_one_by_one(join, federation):
    _, anna = join("anna")
    bert, _ = join("bert")

    status, said = anna.ask("send_many", {"messages": [{"to": str(bert.pk)}, {"to": "three"}, {"to": NOBODY}]})

    assert status == 200
    assert [each.get("status", 201) for each in said["results"]] == [201, 400, 404]


REFUSED = [
    ("complete", {"epoch": "one"}, {"task": True}, 400, "validation_error"),
    ("complete", {"epoch": 1, "surprise": 1}, {"task": True}, 400, "validation_error"),
    ("complete", {"epoch": 7}, {"task": True}, 409, "stale_epoch"),
    ("extend", {"epoch": 7}, {"task": True}, 409, "stale_epoch"),
    ("fail", {"epoch": 1}, {"task": True}, 400, "validation_error"),
    ("complete", {"epoch": 1}, {"task": NOBODY}, 404, "not_found"),
    ("task", None, {"task": NOBODY}, 404, "not_found"),
    ("heartbeat", {"load": 2}, {}, 400, "validation_error"),
    ("heartbeat", {"status": "asleep"}, {}, 400, "validation_error"),
    ("heartbeat", {"running": [{"task": "x", "epoch": 1}]}, {}, 400, "validation_error"),
    ("hello", {"connection": "pigeon"}, {}, 400, "validation_error"),
    ("inbox", None, {"max": 0}, 400, "validation_error"),
    ("ack", {"ids": []}, {}, 400, "validation_error"),
    ("claim", None, {"wait": 61}, 400, "validation_error"),
    ("send", {"to": NOBODY}, {}, 404, "not_found"),
    ("send", {"to": "self"}, {}, 400, "validation_error"),
    ("send", {"from": NOBODY}, {}, 403, "missing_scope"),
    ("register", {"name": "child"}, {}, 401, "not_authenticated"),
    ("heartbeat", {}, {"agent": "other"}, 404, "not_found"),
    ("claim", None, {"agent": "other"}, 404, "not_found"),
    ("leave", None, {"agent": "other"}, 404, "not_found"),
    ("rotate", None, {"agent": "other"}, 404, "not_found"),
]


@pytest.mark.parametrize(("verb", "body", "named", "status", "code"), REFUSED)
def test_what_is_refused_is_refused_in_the_same_words(join, federation, verb, body, named, status, code):
    agent, caller = join()
    other = factories.make_agent(federation, "other")
    task = factories.make_task(federation)
    meant = {"other": other.pk, True: task.pk}
    named = {name: meant.get(value, value) for name, value in named.items()}
    if body and body.get("to") == "self":
        body = {"to": str(agent.pk)}

    answer = caller.ask(verb, body, **named)

    assert (answer[0], answer[1]["code"], answer[1]["status"]) == (status, code, status)
    assert {"type", "title", "detail"} <= set(answer[1])


@pytest.mark.parametrize("how", ["removed", "lost", "federation closed"])
def test_whoever_is_no_member_is_410_with_words(join, federation, how):
    agent, caller = join()
    now = timezone.now()
    if how == "removed":
        agents.leave(agent=agent, now=now, by="Alice")
    elif how == "lost":
        Agent.objects.update(availability="lost")
    else:
        coordination.delete_federation(federation=federation, by="Alice", now=now)

    for verb in ("hello", "heartbeat", "claim", "inbox", "rotate"):
        if how == "lost" or verb == "hello":
            status, said = caller.ask(verb)
            assert (status, said["code"]) == (410, "gone")
            assert "Register again" in said["detail"]
            break


def test_leaving_gives_its_tasks_to_others(join, federation):
    _, caller = join()
    task, _ = held(federation, caller)

    assert caller.ask("leave")[0] == 204

    assert Task.objects.get(pk=task.pk).state == "queued"
    assert Agent.objects.members().count() == 0


def test_a_token_is_replaced_and_the_old_one_ends(join, federation, as_agent):
    agent, caller = join()
    status, said = caller.ask("rotate")

    assert (status, said["token"][:4]) == (200, "nta_")
    assert as_agent(said["token"]).post(f"agents/{agent.pk}/heartbeat").status_code == 200
    assert Agent.objects.get().token_digest == agents.digest(said["token"])


def test_nothing_to_claim_is_204_also_after_a_wait(join):
    _, caller = join()

    assert caller.ask("claim") == (204, None)
    assert caller.ask("claim", wait=0.05) == (204, None)
    assert caller.ask("inbox", wait=0.05) == (200, {"results": []})
