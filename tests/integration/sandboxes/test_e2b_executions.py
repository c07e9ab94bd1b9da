"""Executions from submission to the books, run by the official SDK on the fake E2B cloud."""

from __future__ import annotations

import threading

import pytest
from django.db import connection
from django.utils import timezone

from sandboxes import cancels, claims, engine, executions, executor, leases, orphans, setbacks
from sandboxes.models import Execution
from tests import factories
from tests.integration.sandboxes.daemons import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("runtime")]


@pytest.fixture
def fake(cloud):
    engine.register("e2b", cloud.runtime)
    yield cloud.fake
    engine.withdraw("e2b")


@pytest.fixture
def account(fake):
    account = factories.make_account()
    factories.make_pool(account, min_size=0, runtimes=["e2b"])
    return account


def submit(account, code: str, **changes) -> Execution:
    return factories.make_execution(account, pool="mine", code=code, **changes)


def run_next() -> float | None:
    return executor.run(execution=claims.claim(now=timezone.now()), clock=timezone.now)


def test_it_runs_and_everything_about_it_is_written_down(account):
    execution = submit(account, "import sys; print(sys.stdin.read()); open('artifacts/r', 'w').write('1')", input="go")

    run_next()

    execution.refresh_from_db()
    assert (execution.state, execution.runtime, execution.stdout) == ("succeeded", "e2b", "go\n")
    assert execution.sandbox.startswith("i")
    assert not execution.is_warm
    assert execution.cpu_ms > 0
    assert execution.peak_memory_bytes > 1 << 20
    assert execution.cost_ucr > 0
    assert [artifact.path for artifact in execution.kept_artifacts()] == ["r"]


def test_a_lost_sandbox_is_tried_again_and_costs_nothing_by_itself(account, fake):
    execution = submit(account, "print(1)")
    fake.trouble("/files", drop=True)

    wait = run_next()
    execution.refresh_from_db()
    assert wait
    assert (execution.state, execution.cost_ucr) == ("queued", 0)
    Execution.objects.update(available_at=timezone.now())
    run_next()

    execution.refresh_from_db()
    assert (execution.state, execution.attempt, execution.stdout) == ("succeeded", 2, "1\n")
    assert [attempt.outcome for attempt in execution.attempts.order_by("number")] == ["lost", "finished"]


def test_what_e2b_refuses_for_good_fails_at_once(account, fake):
    execution = submit(account, "print(1)")
    fake.trouble("/v2/sandboxes", status=400, message="Timeout cannot be greater than 1 hours")

    assert run_next() is None

    execution.refresh_from_db()
    assert (execution.state, execution.attempt, execution.cost_ucr) == ("failed", 1, 0)
    assert "Timeout cannot be greater than 1 hours" in execution.error


def test_a_person_cancels_it_from_another_process(account, fake, cloud):
    """The web process has an adapter of its own, which does not know the run; the worker is told by Redis."""
    execution = submit(account, "import time; print('go', flush=True); time.sleep(30)")
    cancels.watch.start()
    worker = threading.Thread(target=lambda: (run_next(), connection.close()))
    worker.start()
    assert eventually(lambda: Execution.objects.get(pk=execution.pk).state == "running", within_seconds=20)
    engine.register("e2b", cloud.with_plan())

    cancelled = executions.cancel(execution=Execution.objects.get(pk=execution.pk), by=None, now=timezone.now())
    worker.join(10)
    cancels.watch.stop()

    execution.refresh_from_db()
    assert cancelled.state == "cancelled"
    assert execution.is_settled
    assert execution.attempts.get().outcome == "cancelled"
    assert execution.peak_memory_bytes > 0
    assert eventually(lambda: not fake.machines)


def test_what_a_dead_worker_left_at_e2b_is_ended(account, fake, cloud):
    """The worker is killed just after E2B made the sandbox: nobody knows of it but E2B."""
    execution = submit(account, "print(1)")
    claimed = claims.claim(now=timezone.now())
    cloud.runtime._cloud.create(language="python", request_id=claimed.request_id, lease_seconds=600, network=False)
    assert orphans.end() == 0

    setbacks.expire_leases(now=timezone.now() + leases.LEASE * 2)

    assert orphans.end() == 1
    assert not fake.machines
    execution.refresh_from_db()
    assert execution.state == "queued"
