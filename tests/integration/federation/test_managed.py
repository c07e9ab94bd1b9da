"""Managed agents: tasks run as executions, and what those end with becomes the result, once."""

from datetime import timedelta
from random import Random

import pytest
from django.utils import timezone

from billing import accounts, budgets, ledger
from billing.keys import KeyPrincipal
from billing.models import UsageRecord
from federation import agents, attempts, coordination, dispatch, managed, showcase, store, tasks, wages, workloads
from federation.models import Attempt, Task
from federation.sample import sweep
from sandboxes import claims, executions, executor
from sandboxes.models import Execution
from sandboxes.runtimes import Artifact, RuntimeLost
from tests import factories
from tests.scripted import outcome

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("runtime")]
PAYLOAD = {"language": "python", "code": "print(1)"}


@pytest.fixture
def account():
    return factories.make_account()


@pytest.fixture
def federation(account):
    return factories.make_federation(account)


@pytest.fixture
def agent(federation):
    return factories.make_agent(federation, "anna", runtime="managed")


def submit(federation, type="execute", payload=None, **changes):
    return factories.make_task(federation, type=type, payload=PAYLOAD if payload is None else payload, **changes)


def give(account):
    hundred = 100 * 1_000_000
    ledger.grant(
        account_id=account.pk, amount_ucr=hundred, category="paid", key="top-up", source="test", now=timezone.now()
    )


def assign(federation, now=None):
    return dispatch.assign(federation_id=federation.pk, now=now or timezone.now(), rng=Random(1))


def start(federation):
    """Assigns, and begins what was assigned; the executions then wait for a worker."""
    for attempt in assign(federation):
        managed.start(attempt_id=attempt.pk, now=timezone.now())


def run_all():
    while execution := claims.claim(now=timezone.now() + timedelta(seconds=60)):
        executor.run(execution=execution, clock=timezone.now)


def advance_all():
    for pk in Execution.objects.values_list("pk", flat=True):
        managed.advance(execution_id=pk, now=timezone.now())


def test_a_task_runs_as_an_execution_and_takes_over_its_result(federation, agent, runtime, account):
    runtime.script = lambda request: outcome(artifacts=(Artifact("result.json", b'{"answer": 42}'),))
    task = submit(federation)

    start(federation)
    task.refresh_from_db()
    execution = Execution.objects.get()
    assert (task.state, execution.account, execution.agent) == ("running", account, str(agent.pk))
    assert execution.metadata["task"] == str(task.pk)
    run_all()
    advance_all()

    task.refresh_from_db()
    assert (task.state, task.result, task.tries) == ("succeeded", {"answer": 42}, 1)


def test_what_a_task_uses_is_recorded_for_the_key_that_submitted_it(federation, agent, account):
    key, _ = factories.make_key(account)
    submit(federation, by=KeyPrincipal(key))
    start(federation)
    run_all()
    advance_all()

    wages.charge_all(now=timezone.now())

    usage = UsageRecord.objects.values_list("meter", "api_key")
    assert set(usage) == {("sandbox_second", key.pk), ("agent_second", key.pk)}


def test_without_an_artifact_the_result_is_what_it_printed(federation, agent, runtime):
    runtime.script = lambda request: outcome(stdout=b"hello\n")
    submit(federation)
    start(federation)
    run_all()
    advance_all()

    assert Task.objects.get().result == {"exit_code": 0, "stdout": "hello\n"}


@pytest.mark.parametrize(
    "content", [b"{", b'"\\u0000"', b'"\\ud800"', b"NaN", b"1e999", b"[" * 100_000, b"\xff"], ids=range(7)
)
def test_a_forged_result_cannot_stop_its_task_from_ending(federation, agent, runtime, content):
    runtime.script = lambda request: outcome(artifacts=(Artifact("result.json", content),), stdout=b"a\0b")
    submit(federation)
    start(federation)
    run_all()
    advance_all()

    task = Task.objects.get()
    assert (task.state, task.result["stdout"]) == ("succeeded", "a\N{REPLACEMENT CHARACTER}b")


def test_starting_and_advancing_twice_is_once(federation, agent):
    submit(federation)
    attempt = assign(federation)[0]
    for _ in range(2):
        managed.start(attempt_id=attempt.pk, now=timezone.now())
    run_all()
    for _ in range(2):
        advance_all()

    assert Execution.objects.count() == 1
    assert Task.objects.get().state == "succeeded"


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        (outcome(exit_code=1, stderr=b"Traceback: boom"), "Traceback: boom"),
        (outcome(exit_code=3), "It ended with exit code 3."),
        (outcome(exit_code=None, signal=9, breach="memory"), "It reached its limit of memory."),
        (outcome(exit_code=None, signal=9, breach="timeout"), "It ran longer than its 60 seconds."),
    ],
    ids=("raises", "exits", "memory", "timeout"),
)
def test_the_programs_own_failure_is_told_and_not_repeated(federation, agent, runtime, ending, words):
    runtime.script = lambda request: ending
    submit(federation)
    start(federation)
    run_all()
    advance_all()

    task = Task.objects.get()
    assert (task.state, task.error, task.tries) == ("failed", words, 1)


def test_a_failure_of_the_sandboxes_is_tried_again(federation, agent, runtime):
    def lost(request):
        raise RuntimeLost("the daemon went away")

    runtime.script = lost
    submit(federation)
    start(federation)
    run_all()
    advance_all()

    task = Task.objects.get()
    assert (task.state, task.tries) == ("queued", 1)
    assert "Attempt 1 of 3" in task.reason


@pytest.mark.parametrize(
    ("type", "payload", "words"),
    [
        ("execute", {"code": "x", "colour": "red"}, "no field 'colour'"),
        ("execute", {"code": ""}, "needs `code`"),
        ("execute", {"code": "x", "language": "cobol"}, "language: There is no such language."),
        ("execute", [], "must be an object"),
        ("backtest", {"strategy": "unknown"}, "must carry its source"),
        ("backtest", {"strategy": "momentum", "symbols": ["XYZ"]}, "XYZ"),
        ("strategy", {"name": "mine"}, "source text in `code`"),
    ],
)
def test_a_payload_nothing_can_be_made_of_fails_with_the_sentence(federation, agent, type, payload, words):
    submit(federation, type, payload)

    start(federation)

    task = Task.objects.get()
    assert task.state == "failed"
    assert words in task.error
    assert not Execution.objects.exists()


def test_without_credits_a_task_waits_with_the_reason_and_starts_when_there_are_some(runtime):
    poor = accounts.open_account(name="Poor", credits=0)
    federation = factories.make_federation(poor)
    factories.make_agent(federation, runtime="managed")
    task = submit(federation)

    start(federation)

    task.refresh_from_db()
    assert (task.state, task.tries) == ("queued", 0)
    assert task.reason.startswith("Insufficient credits: need")
    give(poor)
    for attempt in assign(federation, timezone.now() + timedelta(seconds=16)):
        managed.start(attempt_id=attempt.pk, now=timezone.now())
    task.refresh_from_db()
    assert task.state == "running"


def test_beyond_a_budget_a_task_waits_with_the_reason_and_starts_when_it_is_raised(federation, agent, runtime):
    now = timezone.now()
    said = {"scope": "agent", "target": str(agent.pk), "period": "total", "action": "block", "now": now}
    budget = budgets.create(account=federation.account, limit_ucr=1, **said)
    task = submit(federation)

    start(federation)

    task.refresh_from_db()
    assert (task.state, task.tries) == ("queued", 0)
    assert task.reason.startswith("The budget for agent")
    budgets.change(budget=budget, limit_ucr=10**12)
    for attempt in assign(federation, now + timedelta(seconds=30)):
        managed.start(attempt_id=attempt.pk, now=timezone.now())
    task.refresh_from_db()
    assert task.state == "running"


def test_without_sandboxes_a_task_waits_with_the_reason(federation, agent, runtime):
    runtime.reasons = ["user namespaces are off"]
    submit(federation)

    start(federation)

    task = Task.objects.get()
    assert task.state == "queued"
    assert "user namespaces are off" in task.reason


def test_the_watch_finds_what_no_message_told(federation, agent):
    submit(federation)
    attempt = assign(federation)[0]
    later = timezone.now() + timedelta(seconds=4)
    assert managed.watch(now=later).to_start == [attempt.pk]

    managed.start(attempt_id=attempt.pk, now=timezone.now())
    run_all()

    execution = Execution.objects.get()
    assert managed.watch(now=later).to_advance == [execution.pk]
    managed.advance(execution_id=execution.pk, now=later)
    assert managed.watch(now=later) == managed.Found([], [], [])


def test_the_lease_of_a_running_execution_is_renewed_by_the_watch(federation, agent):
    submit(federation)
    start(federation)
    before = Attempt.objects.get().lease_expires_at
    late = before - timedelta(seconds=1)

    managed.watch(now=late)
    attempts.lapse(now=before + timedelta(seconds=1))

    assert Attempt.objects.get().lease_expires_at == late + timedelta(seconds=30)


def test_an_idle_watch_is_four_queries(django_assert_num_queries):
    with django_assert_num_queries(4):
        managed.watch(now=timezone.now())


@pytest.mark.parametrize("how", ["cancel", "leave"])
def test_the_program_of_an_attempt_that_was_ended_is_stopped(federation, agent, how):
    task = submit(federation)
    start(federation)
    if how == "cancel":
        coordination.cancel_task(task=task, now=timezone.now())
    else:
        agents.leave(agent=agent, now=timezone.now())
    (attempt_id,) = managed.watch(now=timezone.now()).to_stop

    tasks.after_stop.run(attempt_id=str(attempt_id))

    assert Execution.objects.get().state == "cancelled"
    assert managed.watch(now=timezone.now()).to_stop == []
    task.refresh_from_db()
    assert task.state == ("cancelled" if how == "cancel" else "queued")


def test_an_execution_cancelled_on_its_own_page_fails_its_task(federation, agent):
    submit(federation)
    start(federation)
    executions.cancel(execution=Execution.objects.get(), by=None, now=timezone.now())
    advance_all()

    task = Task.objects.get()
    assert (task.state, task.error) == ("failed", "Its execution was cancelled.")


def test_an_agents_time_is_charged_once(federation, agent, account):
    submit(federation)
    start(federation)
    Attempt.objects.update(started_at=timezone.now() - timedelta(seconds=10))
    run_all()
    advance_all()

    for _ in range(2):
        wages.charge_all(now=timezone.now())

    attempt = Attempt.objects.get()
    record = UsageRecord.objects.get(meter="agent_second")
    assert 10 <= record.quantity < 12
    assert (record.account, record.key, record.cost_ucr) == (account, str(attempt.pk), attempt.cost_ucr)
    assert attempt.cost_ucr > 0
    assert wages.charge_all(now=timezone.now()) == 0


def test_time_that_cannot_be_paid_waits_and_is_charged_later(runtime):
    poor = accounts.open_account(name="Poor", credits=1)  # enough for a lease
    federation = factories.make_federation(poor)
    agent = factories.make_agent(federation)
    before = timezone.now() - timedelta(seconds=100)
    factories.make_task(federation, now=before)
    attempt = dispatch.claim(agent=agent, now=before)
    attempts.complete(task_id=attempt.task_id, epoch=1, result=1, now=timezone.now())

    assert wages.charge_all(now=timezone.now()) == 0
    give(poor)
    assert wages.charge_all(now=timezone.now()) == 1
    assert Task.objects.get().state == "succeeded"


def test_a_backtest_sends_the_samples_program_with_its_files(federation, agent, runtime):
    job = sweep.sample_jobs()[0]
    submit(federation, workloads.BACKTEST, job.as_payload())
    start(federation)
    run_all()

    (request,) = runtime.requests
    assert {"prices.csv.gz", "strategy.py", "job.json"} == set(request.files)
    assert request.files["strategy.py"] == job.source.encode()


def test_a_strategy_of_ones_own_is_the_file_that_runs(federation, agent, runtime):
    payload = {"name": "mine", "code": "def positions(prices):\n    return prices * 0\n"}
    task = submit(federation, workloads.STRATEGY, payload)
    start(federation)
    run_all()

    assert runtime.requests[0].files["strategy.py"] == payload["code"].encode()
    assert task.label == "mine"


def test_the_whole_sample_runs_to_its_end(account, runtime):
    for federation in showcase.load(account=account, now=timezone.now()):
        for _ in range(12):
            start(federation)
            run_all()
            advance_all()

    assert set(Task.objects.values_list("state", flat=True)) == {"succeeded"}
    assert Attempt.objects.count() == Task.objects.count() == Execution.objects.count()


# The background tasks themselves


@pytest.fixture
def asked(monkeypatch):
    """What the sweeps asked for, instead of asking a worker."""
    calls = []
    for name in ("assign", "start", "advance", "charge", "after_stop"):
        monkeypatch.setattr(
            getattr(tasks, name), "delay", lambda _name=name, **arguments: calls.append((_name, arguments))
        )
    return calls


def test_assigning_starts_the_first_at_once_and_asks_for_the_others(federation, agent, asked):
    first, second = submit(federation), submit(federation)

    tasks.assign.run(federation_id=str(federation.pk))

    assert Execution.objects.get().federation_attempt.task == first
    assert asked == [("start", {"attempt_id": str(second.attempts.get().pk)})]


def test_the_sweep_asks_for_everything_that_waits(federation, agent, asked):
    submit(federation)
    tasks.sweep.run()
    assert asked == [("assign", {"federation_id": str(federation.pk)})]

    start(federation)
    run_all()
    asked.clear()
    tasks.sweep.run()
    assert asked == [("advance", {"execution_id": str(Execution.objects.get().pk)})]

    tasks.advance.run(execution_id=str(Execution.objects.get().pk))
    assert {name for name, _ in asked[1:]} == {"assign", "charge"}
    tasks.charge.run(attempt_id=str(Attempt.objects.get().pk))
    assert Attempt.objects.get().metered_at is not None


def test_the_sweep_stops_what_is_past_its_deadline(federation, agent, asked):
    submit(federation, deadline=timezone.now() + timedelta(milliseconds=1))
    start(federation)
    Task.objects.update(deadline=timezone.now() - timedelta(seconds=1))

    tasks.sweep.run()

    attempt = Attempt.objects.get()
    assert attempt.state == "expired"
    assert ("after_stop", {"attempt_id": str(attempt.pk)}) in asked


def test_the_sweep_of_agents_gives_the_tasks_of_a_lost_one_away(federation, asked):
    silent = factories.make_agent(federation, "silent", now=timezone.now() - timedelta(seconds=61))

    tasks.sweep_agents.run()

    silent.refresh_from_db()
    assert silent.availability == "lost"
    assert asked == [("assign", {"federation_id": str(federation.pk)})]
    tasks.sweep_inboxes.run()
    tasks.sweep_usage.run()


def test_when_the_sweep_itself_was_late_nobody_is_lost(federation, asked):
    agent = factories.make_agent(federation, "silent", now=timezone.now() - timedelta(seconds=61))
    store.client().set(store.key("last", "sweep_agents"), timezone.now().timestamp() - 60)

    tasks.sweep_agents.run()

    agent.refresh_from_db()
    assert agent.availability == "available"


def test_a_program_that_outlived_its_task_is_work_enough_for_the_sweep(federation, agent, asked):
    submit(federation)
    start(federation)
    attempts.cancel(task_id=Task.objects.get().pk, now=timezone.now())

    tasks.sweep.run()

    assert asked == [("after_stop", {"attempt_id": str(Attempt.objects.get().pk)})]


def test_an_idle_sweep_asks_for_nothing_and_costs_one_statement(asked, django_assert_num_queries):
    with django_assert_num_queries(1):
        tasks.sweep.run()

    assert asked == []
