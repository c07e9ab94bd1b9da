"""Pools that run on this installation's nodes, in the E2B cloud, or on both in an order."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from sandboxes import built_in, claims, engine, executions, executor, keeper, pools, programs, tasks, vitals
from sandboxes.models import Execution, Pool
from sandboxes.runtimes import RuntimeLost
from tests import factories

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("runtime")]


@pytest.fixture
def account():
    return factories.make_account()


@pytest.fixture(autouse=True)
def _small(settings):
    settings.MAX_SANDBOXES = 2
    settings.E2B_MAX_SANDBOXES = 3


def mixed(account, *runtimes, **changes) -> Pool:
    return factories.make_pool(account, **{"min_size": 0, "max_size": 10, "runtimes": list(runtimes)} | changes)


def submit(account, pool="mine", **changes) -> Execution:
    return factories.make_execution(account, pool=pool, **changes)


def claimed(most=20) -> list[str]:
    """Where each went that could be claimed."""
    taken = iter(lambda: claims.claim(now=timezone.now()), None)
    return [execution.runtime for execution, _ in zip(taken, range(most), strict=False)]


# --- which runtime an execution goes to


@pytest.mark.usefixtures("e2b")
@pytest.mark.parametrize(
    ("runtimes", "expected"),
    [
        (["local", "e2b"], ["local", "local", "e2b", "e2b", "e2b"]),
        (["e2b", "local"], ["e2b", "e2b", "e2b", "local", "local"]),
        (["e2b"], ["e2b", "e2b", "e2b"]),
        (["local"], ["local", "local"]),
        ([], ["local", "local"]),
    ],
)
def test_it_goes_to_the_first_that_has_room(account, runtimes, expected):
    mixed(account, *runtimes)
    for _ in range(6):
        submit(account)

    assert claimed() == expected


@pytest.mark.usefixtures("e2b")
def test_the_pools_own_size_binds_over_all_its_runtimes(account):
    mixed(account, "local", "e2b", max_size=3)
    for _ in range(6):
        submit(account)

    assert claimed() == ["local", "local", "e2b"]


@pytest.mark.usefixtures("e2b")
def test_the_room_of_a_runtime_is_shared_by_all_pools(account):
    mixed(account, "e2b")
    mixed(account, "e2b", name="other")
    for pool in ("mine", "other"):
        for _ in range(3):
            submit(account, pool)

    assert claimed() == ["e2b"] * 3


@pytest.mark.usefixtures("e2b")
def test_what_cannot_run_now_does_not_hold_up_what_can(account):
    mixed(account, "e2b")
    mixed(account, "local", name="other")
    for _ in range(4):
        submit(account)
    submit(account, "other")

    assert claimed() == ["e2b", "e2b", "e2b", "local"]


@pytest.mark.usefixtures("e2b")
def test_the_setting_says_where_pools_run_that_do_not(account, settings):
    settings.DEFAULT_RUNTIMES = ["e2b", "local"]
    for _ in range(4):
        factories.make_execution(account)

    assert claimed() == ["e2b", "e2b", "e2b", "local"]
    assert Pool.objects.get(account=None, name="python").all_runtimes == ["e2b", "local"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("e2b")
def test_of_many_who_claim_at_once_no_runtime_takes_one_too_many(account):
    mixed(account, "local", "e2b")
    for _ in range(8):
        submit(account)
    start, won = threading.Barrier(8), []

    def race():
        start.wait()
        won.append(claims.claim(now=timezone.now()))
        connection.close()

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(item.runtime for item in won if item) == ["e2b"] * 3 + ["local"] * 2


# --- when one of them is away


def test_without_an_engine_here_a_mixed_pool_goes_on_at_e2b(account, runtime, e2b):
    mixed(account, "local", "e2b")
    submit(account)
    engine.forget()
    runtime.reasons = ["the daemon cannot be reached"]

    submit(account)
    tasks.run_execution()
    tasks.run_execution()

    assert len(e2b.requests) == 2
    assert not runtime.requests
    assert set(Execution.objects.values_list("state", "runtime")) == {("succeeded", "e2b")}


def test_while_e2b_is_away_a_mixed_pool_goes_on_here(account, runtime, e2b):
    mixed(account, "e2b", "local")
    submit(account)
    e2b.reasons = ["E2B does not let us in: correct E2B_API_KEY."]
    engine.forget("e2b")

    tasks.run_execution()

    assert (len(runtime.requests), len(e2b.requests)) == (1, 0)


def test_while_its_only_runtime_is_away_it_keeps_its_place_and_its_attempts(account, e2b):
    mixed(account, "e2b")
    execution = submit(account)
    e2b.reasons = ["away"]
    engine.forget("e2b")

    tasks.run_execution()

    execution.refresh_from_db()
    assert (execution.state, execution.attempt) == ("queued", 0)


def test_for_a_pool_whose_only_runtime_is_away_submissions_are_refused_with_its_reasons(account, e2b):
    mixed(account, "e2b")
    e2b.reasons = ["E2B does not let us in: correct E2B_API_KEY."]

    with pytest.raises(engine.EngineUnavailable) as refused:
        submit(account)

    assert refused.value.reasons == ["E2B does not let us in: correct E2B_API_KEY."]
    assert not Execution.objects.exists()


def test_so_they_are_when_e2b_is_not_set_up_any_more(account):
    mixed(account, "e2b")

    with pytest.raises(engine.EngineUnavailable, match="set E2B_API_KEY"):
        submit(account)


def test_a_sandbox_lost_at_e2b_is_tried_again_and_says_nothing_of_this_machine(account, e2b):
    vitals._ended.clear()
    mixed(account, "e2b")
    submit(account)

    def lose(request):
        raise RuntimeLost("E2B, running the program: the sandbox was not found")

    e2b.script = lose
    execution = claims.claim(now=timezone.now())
    wait = executor.run(execution=execution, clock=timezone.now)

    execution.refresh_from_db()
    attempt = execution.attempts.get()
    assert 1 <= wait <= 2
    assert (execution.state, attempt.runtime, attempt.outcome) == ("queued", "e2b", "lost")
    assert "was not found" in attempt.error
    assert vitals.error_rate() == 0.0
    later = timezone.now() + timedelta(seconds=3)
    assert claims.claim(now=later).attempt == 2


# --- what a runtime could not keep


def test_what_one_could_not_keep_goes_to_the_other(account, e2b):
    mixed(account, "e2b", "local")
    e2b.refuses = {"limits.memory_mb": "A sandbox at E2B has 512 MB."}

    execution = submit(account)

    assert execution.runtimes == ["local"]
    assert claimed() == ["local"]


def test_what_none_of_the_pools_could_keep_is_refused_where_it_is_wrong(account, e2b):
    mixed(account, "e2b")
    e2b.refuses = {"limits.memory_mb": "A sandbox at E2B has 512 MB."}

    with pytest.raises(programs.Refused) as refused:
        submit(account)

    assert refused.value.errors == {"limits.memory_mb": ["A sandbox at E2B has 512 MB."]}


def test_a_rerun_is_asked_anew_where_it_may_run(account, e2b):
    mixed(account, "e2b", "local")
    e2b.refuses = {"timeout_seconds": "Too long."}
    first = submit(account)
    e2b.refuses = {}

    again = executions.rerun(execution=first, by=None, now=timezone.now())

    assert (first.runtimes, again.runtimes) == (["local"], ["local", "e2b"])


# --- opening and changing


def open_pool(account, **changes) -> Pool:
    wanted = {"name": "fast", "template": "python", "by": None} | changes
    return pools.open_pool(account=account, **wanted)


@pytest.mark.parametrize(
    ("runtimes", "sentence"),
    [
        (["mars"], "There is no runtime mars. Give some of local, e2b."),
        (["local", "local"], "Name each runtime once."),
        (["e2b"], "e2b cannot run anything: E2B is not set up here: the operator has to set E2B_API_KEY."),
    ],
)
def test_a_pool_names_runtimes_that_are_there(account, runtimes, sentence):
    with pytest.raises(programs.Refused) as refused:
        open_pool(account, runtimes=runtimes)

    assert refused.value.errors == {"runtimes": [sentence]}


def test_a_runtime_that_cannot_run_anything_is_not_taken_into_a_pool(account, e2b):
    e2b.reasons = ["E2B does not let us in."]

    with pytest.raises(programs.Refused, match="not valid"):
        open_pool(account, runtimes=["local", "e2b"])


@pytest.mark.usefixtures("e2b")
def test_a_built_template_is_not_sent_to_e2b_alone(account):
    factories.make_template(account, name="own", state="ready")

    with pytest.raises(programs.Refused) as refused:
        open_pool(account, template="own", runtimes=["e2b"])

    assert "not at E2B" in refused.value.errors["runtimes"][0]
    assert open_pool(account, template="own", runtimes=["e2b", "local"]).all_runtimes == ["e2b", "local"]


def test_one_that_has_e2b_keeps_it_while_e2b_is_away(account, e2b):
    pool = open_pool(account, runtimes=["local", "e2b"])
    e2b.reasons = ["away"]
    engine.forget("e2b")

    changed = pools.change_pool(pool=pool, changes={"runtimes": ["e2b", "local"]}, by=None)

    assert changed.runtimes == ["e2b", "local"]


def test_nothing_that_waits_is_stranded_by_a_change(account, e2b):
    pool = open_pool(account, runtimes=["local", "e2b"])
    e2b.refuses = {"limits.cpu": "A sandbox at E2B has 2 CPUs."}
    waiting = submit(account, "fast")
    e2b.refuses = {}

    with pytest.raises(pools.Stranded, match="its new runtimes cannot run"):
        pools.change_pool(pool=pool, changes={"runtimes": ["e2b"]}, by=None)

    executions.cancel(execution=waiting, by=None, now=timezone.now())
    assert pools.change_pool(pool=pool, changes={"runtimes": ["e2b"]}, by=None).runtimes == ["e2b"]


@pytest.mark.parametrize("runtimes", [["mars"], ["local", "local"], ["local", "mars"]])
def test_the_database_knows_the_runtimes_of_pools_too(account, runtimes):
    with pytest.raises(IntegrityError), transaction.atomic():
        mixed(account, *runtimes)


@pytest.mark.parametrize("runtimes", [[], ["mars"]])
def test_and_those_of_executions(account, runtimes):
    execution = factories.make_execution(account)

    with pytest.raises(IntegrityError), transaction.atomic():
        Execution.objects.filter(pk=execution.pk).update(runtimes=runtimes)


# --- sizes


@pytest.mark.usefixtures("e2b")
@pytest.mark.parametrize(("runtimes", "most"), [(["local"], 2), (["e2b"], 3), (["local", "e2b"], 5)])
def test_a_pool_may_grow_as_far_as_its_runtimes_together_allow(account, runtimes, most):
    pool = mixed(account, *runtimes, size=1)

    assert pools.resize(pool=pool, to=9) == most
    pool.size = 10
    assert pools.allowed(pool) == most


@pytest.mark.usefixtures("e2b")
def test_what_runs_at_e2b_needs_no_sandboxes_of_this_machine(account, settings):
    settings.MAX_SANDBOXES = 50
    Pool.objects.filter(account=None).update(runtimes=["e2b"])
    mixed(account, "e2b", size=10)
    none = keeper.wanted()["python", ""]
    mixed(account, "e2b", "local", name="both", size=4)

    assert (none.ready, none.running) == (0, 1)
    assert keeper.wanted()["python", ""].running == 4


@pytest.mark.usefixtures("e2b")
def test_the_counts_of_a_built_in_pool_hold_those_at_e2b_too(account):
    Pool.objects.filter(account=None).update(runtimes=["local", "e2b"], size=10)
    for _ in range(4):
        factories.make_execution(account)
    claimed()
    Execution.objects.update(state="running", started_at=timezone.now())
    python = Pool.objects.with_counts().get(account=None, name="python")

    assert pools.counts(python) == {"starting": 0, "ready": 2, "running": 4, "draining": 0, "failed": 0}
    python.runtimes = ["e2b"]
    assert pools.counts(python)["ready"] == 0


@pytest.mark.usefixtures("e2b")
def test_on_a_new_database_the_built_in_pools_are_as_large_as_their_runtimes(settings):
    settings.DEFAULT_RUNTIMES = ["local", "e2b"]
    Pool.objects.all().delete()

    built_in.ensure()

    assert set(Pool.objects.values_list("max_size", "size")) == {(5, 5)}


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("e2b")
def test_one_who_found_the_runtime_full_is_rung_for_when_it_has_room(account, settings, monkeypatch):
    settings.E2B_MAX_SANDBOXES = 1
    mixed(account, "e2b")
    submit(account)
    rung = []
    monkeypatch.setattr(tasks.run_execution, "delay", lambda *args: rung.append(args), raising=False)

    tasks.run_execution()

    assert len(rung) == 1
