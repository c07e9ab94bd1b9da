"""A node that lacks a template gets it when an execution or a pool needs it; nobody's execution is lost meanwhile."""

from __future__ import annotations

import pytest
from django.utils import timezone

from sandboxes import claims, engine, executions, executor, keeper, pools, setbacks, stock
from sandboxes.models import Build, Execution, Pool
from sandboxes.runtimes import Built, RuntimeLost, Size
from tests import factories

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("runtime")]


@pytest.fixture(autouse=True)
def _nothing_is_being_brought():
    stock._problems.clear()
    yield
    stock.wait()
    stock._problems.clear()


@pytest.fixture
def account():
    return factories.make_account()


@pytest.fixture
def template(account):
    return factories.make_template(account, state="ready")


def due():
    """Its wait is over, and the daemon is asked anew."""
    Execution.objects.update(available_at=timezone.now())
    engine.forget()


def run_next():
    execution = claims.claim(now=timezone.now())
    wait = executor.run(execution=execution, clock=timezone.now)
    execution = Execution.objects.get(pk=execution.pk)
    return execution, wait


def test_an_execution_waits_while_its_template_is_brought_and_then_runs(runtime, account, template):
    submitted = factories.make_execution(account, template=str(template.pk))

    waiting, wait = run_next()
    stock.wait()
    due()
    done, _ = run_next()

    assert (waiting.state, waiting.attempt, waiting.lease_expires_at, waiting.claimed_at) == ("queued", 0, None, None)
    assert wait == setbacks.TEMPLATE_SECONDS
    assert waiting.available_at > submitted.available_at
    assert (done.state, done.attempt, done.attempts.count()) == ("succeeded", 1, 1)
    [request] = runtime.builds
    assert (request.address, request.lock) == (template.address, template.build.lock)


def test_many_who_wait_for_it_bring_it_once(runtime, account, template):
    for _ in range(4):
        factories.make_execution(account, template=str(template.pk))
        run_next()
    stock.wait()

    assert len(runtime.builds) == 1


def test_one_cancelled_while_it_waits_costs_nothing(account, template):
    factories.make_execution(account, template=str(template.pk))
    waiting, _ = run_next()

    executions.cancel(execution=waiting, by=None, now=timezone.now())

    assert (waiting.state, waiting.is_settled, waiting.cost_ucr) == ("cancelled", True, 0)


@pytest.mark.parametrize("problem", [Built(reason="the registry is away"), RuntimeLost("the registry is away")])
def test_what_cannot_be_brought_fails_after_three_attempts_with_the_reason(runtime, account, template, problem):
    def script(request, on_output):
        if isinstance(problem, Exception):
            raise problem
        return problem

    runtime.build_script = script
    factories.make_execution(account, template=str(template.pk))
    run_next()
    stock.wait()
    for _ in range(3):
        due()
        failed, _ = run_next()

    assert (failed.state, failed.attempt, failed.cost_ucr) == ("failed", 3, 0)
    assert "the registry is away" in failed.error


def test_what_failed_is_tried_again_later(runtime, template, monkeypatch):
    runtime.build_script = lambda request, on_output: Built(reason="away")
    assert stock.fetch(template.address) is None
    stock.wait()

    assert stock.fetch(template.address) == "away"
    monkeypatch.setattr(stock, "REMEMBER_SECONDS", 0.0)
    assert stock.fetch(template.address) is None
    stock.wait()
    assert len(runtime.builds) == 2


def test_a_template_that_is_gone_is_said_so(template):
    Build.objects.filter(pk=template.build_id).update(address="python-other")

    stock.fetch(template.address)
    stock.wait()

    assert stock.fetch(template.address) == "Its template is no longer there."


# --- pools of templates


def own_pool(account, template, **changes) -> Pool:
    sizes = {"min_size": 3, "max_size": 6, "idle_timeout_seconds": 60, "max_age_seconds": 120}
    return pools.open_pool(account=account, name="fast", template=str(template.pk), by=None, **sizes | changes)


def test_the_size_of_an_own_pool_is_kept_by_the_node_for_its_template(runtime, account, template):
    own_pool(account, template)
    runtime.templates.add(template.address)

    told = keeper.keep()

    name = f"python:{template.address}"
    assert name in told
    assert runtime.sizes[name] == Size(ready=3, running=6, idle_timeout_seconds=60, max_age_seconds=120)
    assert keeper.keep() == []


def test_pools_of_the_same_content_share_and_stay_within_the_setting(runtime, account, template, settings):
    settings.MAX_SANDBOXES = 8
    own_pool(account, template)
    charlie = factories.make_account(factories.make_user("Charlie"))
    own_pool(charlie, factories.make_template(charlie, state="ready"), min_size=6, idle_timeout_seconds=30)

    size = keeper.wanted()["python", template.address]

    assert (size.ready, size.running, size.idle_timeout_seconds) == (8, 8, 60)


def test_what_a_pool_needs_and_is_not_here_is_brought(runtime, account, template):
    own_pool(account, template)

    assert f"python:{template.address}" not in keeper.keep()
    stock.wait()

    assert [request.address for request in runtime.builds] == [template.address]
    assert f"python:{template.address}" in keeper.keep()


def test_after_its_pool_is_closed_none_is_kept_ready(runtime, account, template, settings):
    pool = own_pool(account, template)
    runtime.templates.add(template.address)
    keeper.keep()

    pools.close_pool(pool=pool, by=factories.make_user())

    assert keeper.keep() == [f"python:{template.address}"]
    assert runtime.sizes[f"python:{template.address}"].ready == 0
    assert runtime.sizes[f"python:{template.address}"].running == settings.MAX_SANDBOXES
    assert keeper.keep() == []


def test_a_pool_of_a_template_that_is_still_building_waits(runtime, account):
    own_pool(account, factories.make_template(account, "x==1"))

    assert all(":" not in name for name in keeper.keep())
    assert runtime.builds == []


def test_the_node_forgets_what_was_deleted(runtime, template):
    runtime.templates |= {template.address, "python-deleted"}
    engine.forget()

    assert keeper.tidy() == ["python-deleted"]
    assert runtime.templates == {template.address}


def test_what_a_pool_has_ready_is_counted(runtime, account, template, monkeypatch):
    pool = own_pool(account, template)
    said = engine.describe() | {"pools": {f"python:{template.address}": {"ready": 3, "running": 9}}}
    monkeypatch.setattr(engine, "describe", lambda *_: said)

    assert pools.counts(Pool.objects.with_counts().get(pk=pool.pk)) == {
        "starting": 0, "ready": 3, "running": 0, "draining": 0, "failed": 0,
    }  # fmt: skip
