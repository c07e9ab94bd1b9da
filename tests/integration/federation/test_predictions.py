"""Predictions: refused at once without a model, run with its weights, and one inference charged when they succeed."""

from __future__ import annotations

import json
from datetime import timedelta
from random import Random

import pytest
from django.utils import timezone
from uuid_utils.compat import uuid7

from billing import books, budgets, ledger, pricing
from billing.keys import KeyPrincipal
from billing.models import Hold, UsageRecord
from federation import attempts, coordination, dispatch, managed, predictions, submission, training, wages
from federation.models import Attempt, Task
from sandboxes import claims, executor
from sandboxes.models import Execution
from sandboxes.runtimes import Artifact, RuntimeLost
from tests import factories, ledger_cast
from tests.ledger_cast import UCR
from tests.scripted import outcome

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("runtime")]
SCALES = {"mean": dict.fromkeys(training.FEATURES, 0.0), "spread": dict.fromkeys(training.FEATURES, 1.0)}
WEIGHTS = {"intercept": 0.01, **dict.fromkeys(training.FEATURES, 0.1)}
TRAINED = {"model": "ridge", "horizon": 5, "symbols": ["IBM"], "weights": WEIGHTS, "scales": SCALES}
ANSWER = (Artifact("result.json", b'{"predictions": []}'),)


@pytest.fixture
def account():
    return ledger_cast.make_account(100)


@pytest.fixture
def federation(account):
    return factories.make_federation(account)


@pytest.fixture(autouse=True)
def agent(federation):
    yield factories.make_agent(federation, "anna", runtime="managed")
    ledger_cast.assert_books_are_right()


def make_model(federation, state="succeeded", result=TRAINED, type="train"):
    task = factories.make_task(federation, type=type, payload={})
    ended = None if state == "queued" else timezone.now()
    Task.objects.filter(pk=task.pk).update(state=state, result=result, finished_at=ended)
    return str(task.pk)


def predict(federation, model=None, **changes):
    payload = {"model": model or make_model(federation)} | changes.pop("payload", {})
    return factories.make_task(federation, type="infer", payload=payload, **changes)


def start(federation, after=0):
    now = timezone.now() + timedelta(seconds=after)
    for attempt in dispatch.assign(federation_id=federation.pk, now=now, rng=Random(1)):
        managed.start(attempt_id=attempt.pk, now=timezone.now())


def finish():
    """What was begun runs to its end, and is told."""
    while execution := claims.claim(now=timezone.now() + timedelta(seconds=60)):
        executor.run(execution=execution, clock=timezone.now)
    for pk in Execution.objects.values_list("pk", flat=True):
        managed.advance(execution_id=pk, now=timezone.now())


def inferences():
    return [record.cost_ucr / UCR for record in UsageRecord.objects.filter(meter="inference")]


def held(account):
    return sum(
        Hold.objects.filter(account=account, state="active", purpose="inference").values_list("amount_ucr", flat=True)
    )


def test_a_prediction_runs_with_the_models_weights_and_is_charged_once_when_it_succeeds(federation, account, runtime):
    runtime.script = lambda request: outcome(artifacts=ANSWER)
    key, _ = factories.make_key(account)
    task = predict(federation, payload={"symbols": ["MSFT"], "day": "2010-07-05"}, by=KeyPrincipal(key))

    start(federation)
    assert held(account) == 10 * UCR
    finish()
    for _ in range(2):
        wages.charge_all(now=timezone.now())
        Attempt.objects.update(metered_at=None)  # as if it had died before it wrote that down

    task.refresh_from_db()
    assert (task.state, task.result, task.label) == (
        "succeeded",
        {"predictions": []},
        "Prediction of MSFT on 2010-07-05",
    )
    (request,) = runtime.requests
    assert json.loads(request.files["job.json"]) == {
        "model": task.payload["model"], "symbols": ["MSFT"], "day": "2010-07-02",
    }  # fmt: skip
    assert json.loads(request.files["model.json"])["weights"] == WEIGHTS
    record = UsageRecord.objects.get(meter="inference")
    assert (record.cost_ucr, record.key, record.api_key) == (10 * UCR, f"inference:{task.pk}", key.pk)
    assert record.properties == {"task": str(task.pk)}
    assert (held(account), Attempt.objects.get().cost_ucr >= 10 * UCR) == (0, True)


def lost(request):
    raise RuntimeLost("the daemon went away")


@pytest.mark.parametrize("credits", [25, 4, 0])
def test_the_account_s_own_price_is_held_and_charged(federation, account, runtime, credits):
    runtime.script = lambda request: outcome(artifacts=ANSWER)
    price = pricing.Price("inference", pricing.Shape.PER_UNIT, credits * UCR, name="Inferences", unit="inference")
    now = timezone.now()
    books.publish_next(name="Own", prices=[price], valid_from=now, now=now, account_id=account.pk)
    predict(federation)
    start(federation, after=1)
    assert held(account) == max(1, credits * UCR)

    finish()
    wages.charge_all(now=timezone.now())

    assert (inferences(), held(account)) == ([credits], 0)


def test_an_own_price_that_cannot_be_paid_keeps_it_waiting(federation, account):
    price = pricing.Price("inference", pricing.Shape.PER_UNIT, 101 * UCR, name="Inferences", unit="inference")
    now = timezone.now()
    books.publish_next(name="Own", prices=[price], valid_from=now, now=now, account_id=account.pk)
    task = predict(federation)

    start(federation, after=1)

    task.refresh_from_db()
    assert (task.state, held(account), "Insufficient credits: need 101" in task.reason) == ("queued", 0, True)


@pytest.mark.parametrize("script", [lambda request: outcome(exit_code=1), lost])
def test_one_that_fails_costs_no_inference_and_holds_nothing(federation, account, runtime, script):
    runtime.script = script
    predict(federation, max_attempts=1)
    start(federation)
    for _ in range(4):
        Execution.objects.filter(state="queued").update(available_at=timezone.now())
        finish()

    wages.charge_all(now=timezone.now())

    assert Task.objects.get(type="infer").state in ("failed", "dead")
    assert (inferences(), held(account)) == ([], 0)


def test_one_that_is_cancelled_costs_no_inference_and_holds_nothing(federation, account):
    task = predict(federation)
    start(federation)
    coordination.cancel_task(task=task, now=timezone.now())

    wages.charge_all(now=timezone.now())

    assert (inferences(), held(account)) == ([], 0)


def test_after_a_failed_attempt_it_is_charged_once(federation, account, runtime):
    runtime.script = lambda request: outcome(artifacts=ANSWER)
    task = predict(federation)
    start(federation)
    attempt = Attempt.objects.get()
    attempts.fail(task_id=task.pk, epoch=1, error="It was lost.", retryable=True, now=timezone.now())
    Execution.objects.filter(federation_attempt=attempt).delete()
    start(federation, after=60)
    finish()

    wages.charge_all(now=timezone.now())

    assert (Task.objects.get(pk=task.pk).state, inferences(), held(account)) == ("succeeded", [10.0], 0)


def test_what_cannot_be_paid_waits_and_writes_nothing(federation, account, runtime):
    runtime.script = lambda request: outcome(artifacts=ANSWER)
    ledger_cast.charge(account, 91, now=timezone.now())
    task = predict(federation)

    start(federation)

    task.refresh_from_db()
    assert (task.state, task.tries, Execution.objects.count(), held(account)) == ("queued", 0, 0, 0)
    assert task.reason.startswith("Insufficient credits: need 10")
    ledger_cast.give(account, 10, now=timezone.now())
    start(federation, after=60)
    finish()
    wages.charge_all(now=timezone.now())
    assert inferences() == [10.0]


@pytest.mark.parametrize("scope", ["meter", "api_key"])
def test_a_budget_that_blocks_keeps_it_waiting(federation, account, scope):
    key, _ = factories.make_key(account)
    target, now = {"meter": "inference", "api_key": str(key.pk)}[scope], timezone.now()
    budgets.create(
        account=account, scope=scope, target=target, period="total", action="block", limit_ucr=9 * UCR, now=now
    )
    task = predict(federation, by=KeyPrincipal(key))

    start(federation)

    task.refresh_from_db()
    assert (task.state, held(account), Execution.objects.count()) == ("queued", 0, 0)
    assert task.reason.startswith("The budget for")


def test_what_a_remote_agent_says_is_its_own_and_no_inference(federation, agent, account):
    coordination.remove_agent(agent=agent, by=None, now=timezone.now())
    remote = factories.make_agent(federation, "remo")
    task = predict(federation)
    dispatch.claim(agent=remote, now=timezone.now())
    attempts.complete(task_id=task.pk, epoch=1, result=1, now=timezone.now(), agent_id=remote.pk)

    wages.charge_all(now=timezone.now() + timedelta(seconds=5))

    assert (inferences(), held(account)) == ([], 0)


@pytest.mark.parametrize(
    ("make", "payload", "words"),
    [
        (lambda federation: str(uuid7()), {}, "no train task"),
        (lambda federation: make_model(factories.make_federation(federation.account)), {}, "no train task"),
        (lambda federation: make_model(federation, type="backtest"), {}, "no train task"),
        (lambda federation: make_model(federation, state="queued", result=None), {}, "is queued"),
        (lambda federation: make_model(federation, state="failed", result=None), {}, "is failed"),
        (lambda federation: make_model(federation, result={"weights": WEIGHTS}), {}, "Train it again"),
        (make_model, {"symbols": ["TSLA"]}, "symbols"),
        (make_model, {"day": "2013-03-02"}, "The day is from"),
        (make_model, {"day": "soon"}, "The day is a date"),
        (lambda federation: "mine", {}, "The model is the id"),
    ],
)
def test_what_cannot_be_predicted_is_refused_at_once(federation, make, payload, words):
    model = make(federation)
    before = Task.objects.count()

    with pytest.raises(submission.BadOrder, match=words) as refused:
        predict(federation, model, payload=payload)

    assert list(refused.value.extras["errors"]) == ["payload"]
    assert Task.objects.count() == before


def test_of_many_only_the_wrong_ones_are_refused(federation):
    model = make_model(federation)
    orders = [coordination.Order(type="infer", payload={"model": each}) for each in (model, str(uuid7()), model)]
    orders += [coordination.Order(type="infer", payload=["x"])]

    found = coordination.submit_tasks(federation=federation, orders=orders, by="Alice", now=timezone.now())

    assert [type(each) for each in found] == [Task, submission.BadOrder, Task, submission.BadOrder]


def test_a_model_that_is_gone_when_it_begins_fails_the_task(federation):
    task = predict(federation)
    Task.objects.filter(type="train").update(result=None)

    start(federation)

    task.refresh_from_db()
    assert (task.state, "Train it again" in task.error) == ("failed", True)


def test_other_attempts_hold_and_charge_no_inference(federation):
    task = factories.make_task(federation, type="train", payload={})
    start(federation)
    attempt = Attempt.objects.select_related("task__federation", "agent").get(task=task)

    predictions.hold(attempt=attempt, now=timezone.now())

    assert predictions.settle(attempt=attempt, now=timezone.now()) == 0
    assert not Hold.objects.filter(purpose="inference").exists()
    with pytest.raises(ledger.UnknownHold):
        ledger.key_of(hold_key=f"inference:{attempt.pk}")
