import threading

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing import books, ledger, pricing
from sandboxes import claims, engine, executions, executor, lifecycle, programs, setbacks, tasks
from sandboxes.models import Execution, Pool
from sandboxes.runtimes import RuntimeLost
from tests import factories, scripted

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("runtime")]


def submit(account=None, **changes):
    wanted = {"code": "print(1)", "language": "python", "now": timezone.now()} | changes
    return executions.submit(account=account or factories.make_account(), **wanted)


def refusal(**changes):
    with pytest.raises(programs.Refused) as refused:
        submit(**changes)
    assert not Execution.objects.exists()
    return refused.value.errors


def test_submitting_queues_with_the_worst_case_held():
    account = factories.make_account()

    execution = submit(account, timeout_seconds=30)

    assert (execution.state, execution.attempt, execution.turn) == ("queued", 0, 1)
    assert execution.pool.name == execution.template.name == "python"
    assert ledger.balance(account_id=account.pk, now=timezone.now()).held_ucr == 833_334  # of 833,333 and a third


def test_the_account_s_own_price_is_held():
    account, now = factories.make_account(), timezone.now()
    price = pricing.Price("sandbox_second", pricing.Shape.PER_UNIT, 3_000_000, name="Sandbox time", unit="second")
    books.publish_next(name="Own", prices=[price], valid_from=now, now=now, account_id=account.pk)

    submit(account, timeout_seconds=30)

    assert ledger.balance(account_id=account.pk, now=timezone.now()).held_ucr == 90_000_000


def test_e1_a_fresh_execution_has_used_nothing():
    assert submit().usage == {
        "cpu_ms": 0,
        "peak_memory_bytes": 0,
        "disk_bytes": 0,
        "network_sent_bytes": 0,
        "network_received_bytes": 0,
    }


def test_without_credits_nothing_is_written():
    account = factories.make_account()
    now = timezone.now()
    ledger.hold(
        account_id=account.pk,
        amount_ucr=ledger.balance(account_id=account.pk, now=now).available_ucr,
        key="all",
        expires_at=now.replace(year=now.year + 1),
        now=now,
    )

    with pytest.raises(ledger.InsufficientCredits, match="Insufficient credits: need .*, have 0"):
        submit(account)

    assert not Execution.objects.exists()


def test_exactly_one_place_to_run_is_named():
    message = "Give exactly one of language, template, pool and sandbox."
    assert refusal(language=None) == {"language": [message]}
    assert refusal(language="python", pool="python") == {"language": [message], "pool": [message]}


@pytest.mark.parametrize(
    ("place", "value"),
    [("language", "cobol"), ("template", "nope"), ("pool", "nope"), ("sandbox", "nope"), ("pool", "a\0b")],
)
def test_a_place_that_is_not_there_is_named(place, value):
    assert refusal(**{"language": None, place: value}) == {place: [f"There is no such {place}."]}


def test_a_pool_of_another_account_is_refused_in_the_same_words():
    foreign = factories.make_pool(factories.make_account(factories.make_user("Charlie")))

    assert refusal(language=None, pool=str(foreign.pk)) == {"pool": ["There is no such pool."]}


def test_an_own_pool_gives_its_limits_and_the_request_changes_some():
    account = factories.make_account()
    pool = factories.make_pool(account, limits={"memory_mb": 64, "cpu": 2})

    execution = submit(account, language=None, pool="mine", limits={"cpu": 0.5})

    assert execution.pool == pool
    assert (execution.limits["memory_mb"], execution.limits["cpu"], execution.limits["processes"]) == (64, 0.5, 64)


@pytest.mark.parametrize(
    ("limits", "field"),
    [({"cpu": 0.0}, "limits.cpu"), ({"memory_mb": -1}, "limits.memory_mb"), ({"cores": 1}, "limits.cores")],
)
def test_e7_limits_out_of_range_are_refused(limits, field):
    assert list(refusal(limits=limits)) == [field]


def test_e8_the_defaults_are_one_core_and_512_mb_and_no_network():
    execution = submit()

    assert (execution.limits["cpu"], execution.limits["memory_mb"], execution.network) == (1.0, 512, False)


def test_the_network_needs_the_operators_leave(settings):
    with pytest.raises(executions.NetworkNotAllowed):
        submit(network=True)

    settings.SANDBOX_NETWORK = "outward"
    assert submit(network=True).network


def test_without_an_engine_executions_are_refused_with_the_reasons(runtime):
    runtime.reasons = ["bubblewrap: no user namespaces"]

    with pytest.raises(engine.EngineUnavailable) as refused:
        submit()

    assert refused.value.extras == {"reasons": ["bubblewrap: no user namespaces"]}
    assert not Execution.objects.exists()


def test_the_engine_is_asked_once_for_many_submissions(runtime):
    account = factories.make_account()
    for _ in range(3):
        submit(account)

    assert runtime.described == 1


def test_the_doorbell_rings_after_commit(django_capture_on_commit_callbacks, monkeypatch):
    rung = []
    monkeypatch.setattr(tasks.run_execution, "apply_async", lambda *args, **kwargs: rung.append(args), raising=False)
    with django_capture_on_commit_callbacks(execute=True):
        submit()
        assert rung == []

    assert len(rung) == 1


def test_a_submission_takes_few_statements():
    account = factories.make_account()
    engine.require()

    with CaptureQueriesContext(
        connection,
    ) as statements:
        submit(account)

    assert len(statements) <= 10, [statement["sql"][:80] for statement in statements]


def test_an_account_cannot_queue_without_end(monkeypatch):
    monkeypatch.setattr(executions, "QUEUE_LIMIT", 3)
    account = factories.make_account()
    for _ in range(3):
        submit(account)

    with pytest.raises(executions.QueueFull):
        submit(account)
    assert submit(factories.make_account(factories.make_user("Charlie"))).state == "queued"


def test_accounts_take_turns():
    alice, charlie = factories.make_account(), factories.make_account(factories.make_user("Charlie"))
    for _ in range(6):
        submit(alice)
    for _ in range(2):
        submit(charlie)

    served = [claims.claim(now=timezone.now()).account_id for _ in range(6)]

    assert served == [alice.pk, charlie.pk, alice.pk, charlie.pk, alice.pk, alice.pk]


def test_nobody_saves_up_turns_by_staying_away():
    alice, charlie = factories.make_account(), factories.make_account(factories.make_user("Charlie"))
    for _ in range(5):
        submit(alice)
    for _ in range(3):
        claims.claim(now=timezone.now())

    late = submit(charlie)

    assert late.turn == 4


def test_a_pool_runs_no_more_than_its_size():
    account = factories.make_account()
    factories.make_pool(account, min_size=0, max_size=1)
    first, second = submit(account, language=None, pool="mine"), submit(account, language=None, pool="mine")
    other = submit(account)

    claimed = [claims.claim(now=timezone.now()) for _ in range(3)]

    assert [item and item.pk for item in claimed] == [first.pk, other.pk, None]
    assert claimed[0].fills_pool
    assert not claimed[1].fills_pool
    executor.finish(execution=claimed[0], outcome=scripted.outcome(), chunks=[], now=timezone.now())
    assert claims.claim(now=timezone.now()).pk == second.pk


def test_all_pools_together_run_no_more_than_the_setting(settings):
    settings.MAX_SANDBOXES = 1
    account = factories.make_account()
    submit(account)
    submit(account, language="node")

    assert claims.claim(now=timezone.now()) is not None
    assert claims.claim(now=timezone.now()) is None


def test_cancelling_in_the_queue_costs_nothing():
    account = factories.make_account()
    before = ledger.balance(account_id=account.pk, now=timezone.now())
    execution = submit(account)

    executions.cancel(execution=execution, by=None, now=timezone.now())

    assert (execution.state, execution.started_at, execution.is_settled) == ("cancelled", None, True)
    assert ledger.balance(account_id=account.pk, now=timezone.now()) == before
    assert claims.claim(now=timezone.now()) is None


def test_cancelling_what_runs_kills_it_keeps_its_output_and_charges_its_seconds(runtime):
    execution = submit()

    def during(request, on_output):
        on_output("stdout", 0, b"so far")
        executions.cancel(execution=execution, by=None, now=timezone.now())

    runtime.during = during
    runtime.script = lambda request: scripted.outcome(stdout=b"so far", exit_code=0)
    executor.run(execution=claims.claim(now=timezone.now()), clock=timezone.now)

    execution = Execution.objects.get(pk=execution.pk)
    assert (execution.state, execution.is_settled, execution.stdout) == ("cancelled", True, "so far")
    assert execution.cost_ucr > 0
    assert execution.attempts.get().outcome == "cancelled"


@pytest.mark.parametrize("ended", [{}, {"exit_code": 1}, {"breach": "timeout", "exit_code": None}])
def test_a_final_execution_cannot_be_cancelled(runtime, ended):
    execution = submit()
    runtime.script = lambda request: scripted.outcome(**ended)
    executor.run(execution=claims.claim(now=timezone.now()), clock=timezone.now)

    with pytest.raises(lifecycle.IllegalMove):
        executions.cancel(execution=execution, by=None, now=timezone.now())


def test_the_second_who_cancels_is_told_it_is_done():
    execution = submit()
    executions.cancel(execution=execution, by=None, now=timezone.now())

    with pytest.raises(lifecycle.IllegalMove) as refused:
        executions.cancel(execution=execution, by=None, now=timezone.now())

    assert refused.value.extras == {"state": "cancelled"}


def test_the_books_of_a_cancelled_execution_are_closed_when_its_worker_died():
    now = timezone.now()
    execution = submit(now=now)
    claims.claim(now=now)
    executions.cancel(execution=execution, by=None, now=now)
    assert not execution.is_settled

    setbacks.expire_leases(now=now + timezone.timedelta(minutes=1))

    execution.refresh_from_db()
    assert execution.is_settled
    assert execution.state == "cancelled"
    assert ledger.balance(account_id=execution.account_id, now=now).held_ucr == 0


def test_running_again_submits_the_same_program():
    execution = submit(code="x = 1", input="a", files={"f": "y"}, limits={"memory_mb": 99}, metadata={"k": "v"})

    again = executions.rerun(execution=execution, by=None, now=timezone.now())

    assert again.pk != execution.pk
    assert again.rerun_of == execution
    assert (again.code, bytes(again.stdin), again.files, again.metadata) == ("x = 1", b"a", execution.files, {"k": "v"})
    assert again.limits["memory_mb"] == 99


def test_running_again_stays_in_an_own_pool():
    account = factories.make_account()
    factories.make_pool(account)
    execution = submit(account, language=None, pool="mine")

    assert executions.rerun(execution=execution, by=None, now=timezone.now()).pool == execution.pool


def test_e11_the_default_pool_keeps_2_to_10():
    assert set(Pool.objects.filter(account=None).values_list("name", "min_size", "max_size")) == {
        ("python", 2, 10),
        ("node", 2, 10),
    }


def test_e12_e13_a_pool_nobody_used_has_no_totals_and_no_sandboxes():
    account = factories.make_account()
    pool = Pool.objects.with_counts().get(pk=factories.make_pool(account).pk)

    assert pool.totals(account) == {"executions": 0, "cpu_ms": 0, "memory_bytes": 0}
    assert (pool.running, pool.starting, pool.queued) == (0, 0, 0)


def test_e5_totals_add_up_what_executions_used(runtime):
    account = factories.make_account()
    for cpu, memory in ((100.0, 1024), (200.0, 2048)):
        submit(account)
        runtime.script = lambda request, cpu=cpu, memory=memory: scripted.outcome(cpu_ms=cpu, peak_memory_bytes=memory)
        executor.run(execution=claims.claim(now=timezone.now()), clock=timezone.now)

    totals = Pool.objects.get(account=None, name="python").totals(account)

    assert totals == {"executions": 2, "cpu_ms": 300, "memory_bytes": 3072}


@pytest.mark.parametrize(
    "change",
    [
        {"state": "running"},
        {"state": "succeeded"},
        {"state": "dancing"},
        {"breach": "boredom"},
        {"attempt": 4},
        {"timeout_seconds": 0},
        {"cpu_ms": -1},
        {"lease_expires_at": timezone.now()},
        {"finished_at": timezone.now()},
    ],
)
def test_the_database_refuses_what_cannot_be(change):
    execution = submit()

    with pytest.raises(IntegrityError), transaction.atomic():
        Execution.objects.filter(pk=execution.pk).update(**change)


@pytest.mark.django_db(transaction=True)
def test_of_two_claimers_one_wins():
    execution = submit()
    start, won = threading.Barrier(4), []

    def race():
        start.wait()
        claimed = claims.claim(now=timezone.now())
        won.append(claimed)
        connection.close()

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [item.pk for item in won if item] == [execution.pk]


@pytest.mark.django_db(transaction=True)
def test_of_many_who_cancel_one_succeeds():
    execution = submit()
    start, results = threading.Barrier(4), []

    def race():
        start.wait()
        try:
            executions.cancel(execution=Execution.objects.get(pk=execution.pk), by=None, now=timezone.now())
            results.append("cancelled")
        except lifecycle.IllegalMove:
            results.append("too late")
        connection.close()

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(results) == ["cancelled", "too late", "too late", "too late"]


@pytest.mark.django_db(transaction=True)
def test_duplicate_deliveries_run_it_once(runtime):
    execution = submit()

    for _ in range(3):
        tasks.run_execution(execution_id=str(execution.pk))

    assert len(runtime.requests) == 1
    assert Execution.objects.get(pk=execution.pk).attempts.count() == 1


@pytest.mark.django_db(transaction=True)
def test_the_sweep_rings_for_what_nobody_heard(runtime, monkeypatch):
    submit()
    rung = []
    monkeypatch.setattr(tasks, "_ringing", lambda: 0)
    monkeypatch.setattr(tasks.run_execution, "delay", lambda *args: rung.append(args), raising=False)

    tasks.sweep_executions()

    assert len(rung) == 1


@pytest.mark.django_db(transaction=True)
def test_while_the_daemon_is_away_nothing_is_claimed_and_no_attempt_is_lost(runtime):
    execution = submit()
    engine.forget()
    runtime.reasons = ["the daemon cannot be reached"]

    tasks.run_execution()
    execution.refresh_from_db()
    assert (execution.state, execution.attempt) == ("queued", 0)
    runtime.reasons = []
    engine.forget()
    tasks.run_execution()

    execution.refresh_from_db()
    assert (execution.state, execution.attempt) == ("succeeded", 1)


def test_a_lost_sandbox_has_the_engine_asked_anew(runtime):
    submit()

    def script(request):
        raise RuntimeLost("gone")

    runtime.script = script
    executor.run(execution=claims.claim(now=timezone.now()), clock=timezone.now)
    engine.require()

    assert runtime.described == 2


@pytest.mark.django_db(transaction=True)
def test_a_retry_is_rung_for_when_its_wait_is_over(runtime, monkeypatch):
    submit()
    rung = []
    monkeypatch.setattr(tasks.run_execution, "apply_async", lambda *args, **kwargs: rung.append(kwargs), raising=False)

    def script(request):
        raise RuntimeLost("gone")

    runtime.script = script
    tasks.run_execution()

    assert 1 <= rung[0]["countdown"] <= 2


@pytest.mark.django_db(transaction=True)
def test_one_who_found_the_pool_full_is_rung_for_when_it_has_room(monkeypatch):
    account = factories.make_account()
    factories.make_pool(account, min_size=0, max_size=1)
    submit(account, language=None, pool="mine")
    rung = []
    monkeypatch.setattr(tasks.run_execution, "delay", lambda *args: rung.append(args), raising=False)

    tasks.run_execution()

    assert len(rung) == 1


def test_the_broker_says_how_many_doorbells_it_holds():
    assert tasks._ringing() >= 0
