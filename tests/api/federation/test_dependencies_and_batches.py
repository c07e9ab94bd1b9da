"""Tasks that need others, progress in words, dead letters sent on, and the doors for hundreds at once."""

import pytest

from federation import attempts
from federation.models import DeadLetter, Task
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def agent(federation):
    return factories.make_agent_with_token(federation, "anna", max_concurrent_tasks=100)


def submit(api, federation, **body):
    return api.post(f"federations/{federation.pk}/tasks", {"type": "work", "queue_if_empty": True, **body})


def test_a_task_says_what_it_depends_on_and_its_agent_gets_the_results(api, federation, agent, as_agent):
    first = submit(api, federation).json()["id"]
    second = submit(api, federation, depends_on=[first], payload={"n": 1})
    caller, path = as_agent(agent[1]), f"agents/{agent[0].pk}/tasks/claim"
    assert (second.status_code, second.json()["depends_on"], second.json()["state"]) == (201, [first], "queued")
    assert second.json()["reason"] == f"It waits for the task {first} to succeed."
    assert caller.post(path).json()["task"]["id"] == first
    assert caller.post(path).status_code == 204

    caller.post(f"tasks/{first}/complete", {"epoch": 1, "result": [1, 2]})
    claimed = caller.post(path).json()["task"]

    assert claimed["payload"] == {"n": 1, "dependencies": {first: [1, 2]}}
    assert api.get(f"tasks/{claimed['id']}").json()["payload"] == {"n": 1}


def test_items_of_a_batch_name_each_other_and_refused_ones_keep_their_place(api, federation):
    asked = [
        {"type": "a", "key": "first"},
        {"type": 3, "key": "wrong"},
        {"type": "b", "depends_on": ["first", 0]},
        {"type": "c", "depends_on": [1]},
        {"type": "d", "depends_on": [5]},
        {"type": "e", "depends_on": [4]},
    ]
    asked = [each | {"queue_if_empty": True} for each in asked]

    results = api.post(f"federations/{federation.pk}/tasks/batch", {"tasks": asked}).json()["results"]

    first, wrong, second, behind, *circle = results
    assert api.get(f"tasks/{second['id']}").json()["depends_on"] == [first["id"]]
    assert list(wrong["errors"]) == ["type"]
    assert behind["errors"] == {"depends_on": ["It needs the task 1 of this batch, which was refused."]}
    assert [(each["code"], each["status"], list(each["errors"])) for each in circle] == [
        ("validation_error", 400, ["depends_on"])
    ] * 2
    assert Task.objects.count() == 2


@pytest.mark.parametrize("needed", ["x", [""], [True], [1.5], [None], ["nobody"], [0], list(range(51))])
def test_a_wrong_dependency_is_named(api, federation, needed):
    answer = submit(api, federation, depends_on=needed)

    (field,) = answer.json()["errors"]
    assert (answer.status_code, answer.json()["code"], field.split(".")[0]) == (400, "validation_error", "depends_on")


def test_a_task_of_somebody_else_is_not_there_to_depend_on(api, federation):
    foreign = factories.make_task(factories.make_federation())

    answer = submit(api, federation, depends_on=[str(foreign.pk)])

    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["depends_on"])


def test_a_deadline_by_a_clock_an_hour_behind_is_refused(api, federation):
    answer = submit(api, federation, deadline="2026-01-01T00:00:00Z")

    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["deadline"])
    assert "This has passed: it is " in answer.json()["errors"]["deadline"][0]
    assert not Task.objects.exists()


def test_what_needs_a_dead_task_says_so_when_it_is_retried(api, federation):
    first = submit(api, federation).json()["id"]
    second = submit(api, federation, depends_on=[first]).json()["id"]
    api.post(f"tasks/{first}/cancel")
    api.post(f"tasks/{second}/cancel")

    answer = api.post(f"tasks/{second}/retry")

    assert (answer.status_code, answer.json()["code"], answer.json()["state"]) == (409, "conflict", "cancelled")


def test_a_payload_over_a_megabyte_is_413(api, federation):
    answer = submit(api, federation, payload={"x": "y" * 1024 * 1024})

    assert (answer.status_code, answer.json()["code"], answer.json()["limit"]) == (
        413,
        "payload_too_large",
        1024 * 1024,
    )


def test_progress_is_told_with_a_note_by_extending_and_by_heartbeat(api, federation, agent, as_agent):
    task = submit(api, federation).json()["id"]
    caller = as_agent(agent[1])
    caller.post(f"agents/{agent[0].pk}/tasks/claim")

    caller.post(f"tasks/{task}/extend", {"epoch": 1, "progress": 0.25, "note": "reading"})
    first = api.get(f"tasks/{task}").json()
    running = [{"task": task, "epoch": 1, "progress": 0.5, "note": "fitting"}]
    caller.post(f"agents/{agent[0].pk}/heartbeat", {"running": running})
    second = api.get(f"tasks/{task}").json()
    wrong = caller.post(f"tasks/{task}/extend", {"epoch": 1, "progress": 1.5})

    assert (first["progress"], first["progress_note"]) == (0.25, "reading")
    assert (second["progress"], second["progress_note"]) == (0.5, "fitting")
    assert wrong.status_code == 400


def test_a_dead_task_is_replayed_once_by_its_letter_or_by_retrying_it(api, federation, agent, as_agent):
    caller = as_agent(agent[1])
    for act in ("letter", "retry"):
        task = submit(api, federation, max_attempts=1).json()["id"]
        caller.post(f"agents/{agent[0].pk}/tasks/claim")
        caller.post(f"tasks/{task}/fail", {"epoch": 1, "error": "boom"})
        letter = DeadLetter.objects.get(task=task)
        path = f"dead-letters/{letter.pk}/replay" if act == "letter" else f"tasks/{task}/retry"

        answer = api.post(path)

        assert answer.status_code == 200
        assert api.get(f"tasks/{task}").json()["state"] == "queued"
        again = api.post(f"dead-letters/{letter.pk}/replay")
        assert (again.status_code, again.json()["state"]) == (409, "replayed")
        api.post(f"tasks/{task}/cancel")


# Hundreds at once


def test_an_agent_claims_and_completes_many_at_once(api, federation, agent, as_agent, django_assert_max_num_queries):
    tasks = [submit(api, federation, payload={"n": n}).json()["id"] for n in range(20)]
    caller = as_agent(agent[1])

    with django_assert_max_num_queries(30):
        claimed = caller.post(f"agents/{agent[0].pk}/tasks/claim/batch", {"max": 12}).json()["results"]
    said = [{"task": each["task"]["id"], "epoch": each["epoch"], "result": n} for n, each in enumerate(claimed)]
    with django_assert_max_num_queries(25):
        done = caller.post(f"agents/{agent[0].pk}/tasks/complete/batch", {"tasks": said}).json()["results"]

    assert [each["task"]["id"] for each in claimed] == tasks[:12]
    assert done == [{"id": task} for task in tasks[:12]]
    rows = Task.objects.filter(pk__in=tasks[:12]).order_by("pk")
    assert list(rows.values_list("state", "result", "tries")) == [("succeeded", n, 1) for n in range(12)]
    assert len(caller.post(f"agents/{agent[0].pk}/tasks/claim/batch").json()["results"]) == 8
    assert caller.post(f"agents/{agent[0].pk}/tasks/claim/batch").json() == {"results": []}


def test_of_many_completions_each_is_judged_by_itself(api, federation, agent, as_agent):
    tasks = [submit(api, federation).json()["id"] for _ in range(3)]
    foreign = factories.make_task(factories.make_federation())
    caller, path = as_agent(agent[1]), f"agents/{agent[0].pk}/tasks/complete/batch"
    caller.post(f"agents/{agent[0].pk}/tasks/claim/batch")
    said = [
        {"task": tasks[0], "epoch": 1, "result": "a"},
        {"task": tasks[0], "epoch": 1, "result": "a"},
        {"task": tasks[0], "epoch": 1, "result": "b"},
        {"task": tasks[1], "epoch": 7, "result": "a"},
        {"task": str(foreign.pk), "epoch": 1},
        {"task": tasks[2]},
    ]

    results = caller.post(path, {"tasks": said}).json()["results"]

    assert [each.get("code", "done") for each in results] == [
        "done", "done", "conflict", "stale_epoch", "not_found", "validation_error",
    ]  # fmt: skip
    assert [Task.objects.get(pk=task).state for task in tasks] == ["succeeded", "running", "running"]
    assert caller.post(path, {"tasks": []}).status_code == 400
    assert caller.post(f"agents/{agent[0].pk}/tasks/claim/batch", {"max": 0}).status_code == 400


def test_completing_many_does_what_completing_each_does(api, federation, agent, as_agent):
    """The statements of the batch write the same rows as those of one."""
    one, other = (submit(api, federation, payload={"n": 1}).json()["id"] for _ in range(2))
    caller = as_agent(agent[1])
    caller.post(f"agents/{agent[0].pk}/tasks/claim/batch", {"max": 2})
    result = {"x": [1, None, "ü\\"], "y": 1.5}

    caller.post(f"tasks/{one}/complete", {"epoch": 1, "result": result})
    caller.post(
        f"agents/{agent[0].pk}/tasks/complete/batch", {"tasks": [{"task": other, "epoch": 1, "result": result}]}
    )

    def seen(task):
        found = api.get(f"tasks/{task}").json()
        (attempt,) = found.pop("attempts")
        drop = ("id", "created_at", "started_at", "finished_at")
        drop_attempt = ("assigned_at", "started_at", "ended_at", "lease_expires_at")
        return (
            {name: value for name, value in found.items() if name not in drop},
            {name: value for name, value in attempt.items() if name not in drop_attempt},
        )

    assert seen(one) == seen(other)
    answers = [Task.objects.get(pk=task).attempts.get().answer for task in (one, other)]
    assert answers == [{"result": result}] * 2
    late = attempts.complete
    assert late(task_id=other, epoch=1, result=result, now=Task.objects.get(pk=other).created_at).state == "succeeded"
