from datetime import timedelta

import pytest
from django.utils import timezone

from billing import ledger
from billing.keys import KeyPrincipal
from billing.models import UsageRecord
from sandboxes import charges, claims, executions, executor, leases, setbacks, signals
from sandboxes.models import Attempt, Execution, OutputChunk
from sandboxes.runtimes import Artifact, InvalidRequest, RuntimeLost, RuntimeUnavailable
from tests import factories, scripted

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("runtime")]


def run_next():
    execution = claims.claim(now=timezone.now())
    wait = executor.run(execution=execution, clock=timezone.now)
    execution.refresh_from_db()
    return execution, wait


def balance(account):
    return ledger.balance(account_id=account.pk, now=timezone.now())


def lost(reason="the daemon went away"):
    def script(request):
        raise RuntimeLost(reason)

    return script


def make_due(execution):
    """Its wait between attempts is over."""
    Execution.objects.filter(pk=execution.pk).update(available_at=timezone.now())


def test_an_execution_runs_to_success_and_is_charged_for_its_seconds(runtime):
    account = factories.make_account()
    before = balance(account)
    factories.make_execution(account, timeout_seconds=10)
    runtime.script = lambda request: scripted.outcome(stdout=b"hello\n", duration_ms=2000.0)

    execution, wait = run_next()

    after = balance(account)
    assert (execution.state, execution.exit_code, wait) == ("succeeded", 0, None)
    assert execution.stdout == "hello\n"
    assert execution.lease_expires_at is None
    assert execution.cost_ucr > 0
    assert before.available_ucr - after.available_ucr == execution.cost_ucr
    assert after.held_ucr == 0


def test_the_runtime_is_given_what_was_asked(runtime):
    factories.make_execution(
        code="print(2)",
        input="in",
        args=["a", "b"],
        env={"A": "1"},
        files={"d/x.bin": b"\xff"},
        timeout_seconds=7,
        limits={"memory_mb": 64},
    )

    execution, _ = run_next()

    [request] = runtime.requests
    assert (request.code, request.stdin, request.args, request.env) == ("print(2)", b"in", ("a", "b"), {"A": "1"})
    assert request.files == {"d/x.bin": b"\xff"}
    assert (request.timeout_seconds, request.limits.memory_mb, request.network) == (7, 64, False)
    assert request.id == f"{execution.pk}-1"


@pytest.mark.parametrize(
    ("ended", "state", "breach", "error"),
    [
        ({"exit_code": 3, "stderr": b"Traceback\nValueError: no\n"}, "failed", "", "ValueError: no"),
        ({"exit_code": 3}, "failed", "", "The program ended with exit code 3."),
        ({"exit_code": None, "signal": 11}, "failed", "", "The program ended with signal 11."),
        (
            {"exit_code": None, "signal": 9, "breach": "timeout"},
            "timed_out",
            "timeout",
            "It ran longer than its 60 seconds.",
        ),
        ({"exit_code": 1, "breach": "memory"}, "failed", "memory", "It needed more than its 512 MB of memory."),
        ({"exit_code": None, "breach": "output"}, "failed", "output", "It printed more than its 1024 KB."),
        ({"exit_code": 1, "breach": "disk"}, "failed", "disk", "It wrote more than its 1024 MB to disk."),
        ({"exit_code": 1, "breach": "processes"}, "failed", "processes", "It started more than its 64 processes."),
    ],
)
def test_a_failure_says_why(runtime, ended, state, breach, error):
    factories.make_execution()
    runtime.script = lambda request: scripted.outcome(**ended)

    execution, _ = run_next()

    assert (execution.state, execution.breach, execution.error) == (state, breach, error)
    assert execution.cost_ucr > 0


def test_usage_sandbox_and_attempt_are_kept(runtime):
    factories.make_execution()

    execution, _ = run_next()

    attempt = execution.attempts.get()
    assert execution.usage["peak_memory_bytes"] == 9_000_000
    assert (execution.sandbox, execution.is_warm, execution.startup_ms) == ("slot-1", True, 1.5)
    assert (attempt.number, attempt.outcome, attempt.sandbox) == (1, "finished", "slot-1")
    assert attempt.claimed_at <= attempt.started_at <= attempt.finished_at


def test_what_it_used_while_it_ran_is_kept(runtime):
    factories.make_execution()
    runtime.during = lambda request, on_output: runtime.tell_sample(scripted.sample(250))
    runtime.script = lambda request: scripted.outcome(duration_ms=300.0)

    execution, _ = run_next()

    assert execution.kept_samples() == [[4, 250, 125, 9_000_000, 4096]]
    assert not OutputChunk.objects.exists()


def test_artifacts_are_kept_with_their_bytes(runtime):
    factories.make_execution()
    runtime.script = lambda request: scripted.outcome(
        artifacts=(Artifact("a/result.json", b"{}"), Artifact("raw", b"\xff\0")), artifacts_truncated=("big",)
    )

    execution, _ = run_next()

    found = {artifact.path: (bytes(artifact.content), artifact.content_type) for artifact in execution.artifacts.all()}
    assert found == {"a/result.json": (b"{}", "application/json"), "raw": (b"\xff\0", "application/octet-stream")}
    assert execution.artifacts_truncated == ["big"]


def test_an_execution_is_charged_once_whoever_repeats_its_end():
    execution = factories.make_execution()
    claimed = claims.claim(now=timezone.now())
    executor.finish(execution=claimed, outcome=scripted.outcome(), chunks=[], now=timezone.now())

    with pytest.raises(executor.Superseded):
        executor.finish(execution=claimed, outcome=scripted.outcome(exit_code=1), chunks=[], now=timezone.now())

    execution.refresh_from_db()
    assert execution.state == "succeeded"
    assert UsageRecord.objects.filter(account=execution.account).count() == 1
    assert Attempt.objects.filter(execution=execution).count() == 1


def test_what_went_over_the_network_is_charged_with_the_seconds_and_once(runtime, settings):
    settings.SANDBOX_NETWORK = "outward"
    account = factories.make_account()
    before = balance(account).available_ucr
    factories.make_execution(account, network=True)
    runtime.script = lambda request: scripted.outcome(network_sent_bytes=1_000_000, network_received_bytes=9_000_000)

    execution, _ = run_next()
    with pytest.raises(executor.Superseded):
        executor.finish(
            execution=execution, outcome=scripted.outcome(network_sent_bytes=5), chunks=[], now=timezone.now()
        )

    usage = {record.meter: record for record in UsageRecord.objects.filter(account_id=account.pk)}
    assert usage["data_byte"].quantity == 10_000_000
    assert usage["data_byte"].properties == {"execution": str(execution.pk)}
    assert set(usage) == {"sandbox_second", "data_byte"}
    assert execution.cost_ucr == sum(record.cost_ucr for record in usage.values())
    assert before - balance(account).available_ucr == execution.cost_ucr
    assert execution.usage["network_received_bytes"] == 9_000_000


def test_what_it_used_is_recorded_for_the_key_that_submitted_it(runtime):
    account = factories.make_account()
    key, _ = factories.make_key(account)
    factories.make_execution(account, by=KeyPrincipal(key))
    runtime.script = lambda request: scripted.outcome(network_sent_bytes=5)

    run_next()

    usage = UsageRecord.objects.filter(account_id=account.pk).values_list("meter", "api_key")
    assert set(usage) == {("sandbox_second", key.pk), ("data_byte", key.pk)}


def test_who_used_no_network_has_no_record_of_bytes(runtime):
    factories.make_execution()

    run_next()

    assert not UsageRecord.objects.filter(meter="data_byte").exists()


def test_a_lost_sandbox_is_tried_again_and_costs_nothing(runtime):
    account = factories.make_account()
    before = balance(account).available_ucr
    factories.make_execution(account)
    runtime.script = lost()

    execution, wait = run_next()

    assert execution.state == "queued"
    assert 1 <= wait <= 2
    assert execution.available_at > timezone.now()
    assert execution.attempts.get().outcome == "lost"
    assert balance(account).available_ucr < before  # still held

    runtime.script = lambda request: scripted.outcome()
    make_due(execution)
    execution, _ = run_next()

    assert (execution.state, execution.attempt) == ("succeeded", 2)
    assert [attempt.outcome for attempt in execution.attempts.order_by("number")] == ["lost", "finished"]


def test_a_retry_waits_for_its_time(runtime):
    factories.make_execution()
    runtime.script = lost()
    run_next()

    assert claims.claim(now=timezone.now()) is None
    assert claims.claim(now=timezone.now() + timedelta(seconds=3)) is not None


def test_after_three_losses_it_fails_honestly_and_costs_nothing(runtime):
    account = factories.make_account()
    before = balance(account).available_ucr
    execution = factories.make_execution(account)
    runtime.script = lost("the node caught fire")

    for _ in range(3):
        make_due(execution)
        execution, wait = run_next()

    assert (execution.state, wait) == ("failed", None)
    assert execution.error == "The sandbox was lost 3 times, the last time because: the node caught fire"
    assert execution.attempts.count() == 3
    assert balance(account).available_ucr == before


def test_a_runtime_that_cannot_is_tried_again_with_its_reasons_kept(runtime):
    factories.make_execution()

    def script(request):
        raise RuntimeUnavailable(["no user namespaces"])

    runtime.script = script
    execution, wait = run_next()

    assert wait is not None
    assert execution.attempts.get().outcome == "refused"
    assert "no user namespaces" in execution.attempts.get().error


def test_a_request_the_runtime_refuses_is_not_tried_again(runtime):
    account = factories.make_account()
    before = balance(account).available_ucr
    factories.make_execution(account)

    def script(request):
        raise InvalidRequest("this language is unknown here")

    runtime.script = script
    execution, wait = run_next()

    assert (execution.state, execution.error, wait) == ("failed", "this language is unknown here", None)
    assert balance(account).available_ucr == before


def test_a_worker_that_dies_loses_its_lease_and_another_finishes():
    now = timezone.now()
    factories.make_execution(now=now)
    dead = claims.claim(now=now)

    again = setbacks.expire_leases(now=now + leases.LEASE + timedelta(seconds=1))

    dead.refresh_from_db()
    assert (again, dead.state, dead.attempts.get().outcome) == (1, "queued", "expired")


def test_a_lease_that_runs_is_left_alone():
    now = timezone.now()
    factories.make_execution(now=now)
    claimed = claims.claim(now=now)

    assert setbacks.expire_leases(now=now + timedelta(seconds=5)) == 0
    assert Execution.objects.get(pk=claimed.pk).state == "starting"


def test_a_worker_that_comes_back_too_late_changes_nothing():
    now = timezone.now()
    account = factories.make_account()
    factories.make_execution(account, now=now)
    late = claims.claim(now=now)
    setbacks.expire_leases(now=now + timedelta(minutes=1))
    second = claims.claim(now=now + timedelta(minutes=2))

    with pytest.raises(executor.Superseded):
        executor.finish(execution=late, outcome=scripted.outcome(exit_code=1), chunks=[], now=now)
    executor.finish(execution=second, outcome=scripted.outcome(), chunks=[], now=now + timedelta(minutes=2))

    second.refresh_from_db()
    assert (second.state, second.attempt) == ("succeeded", 2)
    assert UsageRecord.objects.filter(account=account).count() == 1


def test_a_crash_while_the_end_is_written_leaves_nothing_half_done(monkeypatch):
    execution = factories.make_execution()
    claimed = claims.claim(now=timezone.now())

    def crash(*args, **kwargs):
        raise RuntimeError("power cut")

    monkeypatch.setattr(charges, "capture", crash)
    with pytest.raises(RuntimeError):
        executor.finish(
            execution=claimed, outcome=scripted.outcome(artifacts=(Artifact("a", b"1"),)), chunks=[], now=timezone.now()
        )

    execution.refresh_from_db()
    assert execution.state == "starting"
    assert execution.attempts.count() == execution.artifacts.count() == 0


def test_output_that_came_in_pieces_is_whole(runtime):
    factories.make_execution()

    def during(request, on_output):
        on_output("stdout", 0, b"one ")
        on_output("stderr", 0, b"\xff\xfe")
        on_output("stdout", 4, b"two")

    runtime.during = during
    runtime.script = lambda request: scripted.outcome(stdout=b"one two three", stderr=b"\xff\xfe")

    execution, _ = run_next()

    chunk = OutputChunk.objects.get(execution=execution)
    assert chunk.journal == "o4 e2 o3 o6"
    assert execution.output == {"stdout": b"one two three", "stderr": b"\xff\xfe"}
    assert execution.stderr == "\ufffd\ufffd"


def test_a_piece_that_does_not_follow_is_taken_from_the_end_instead(runtime):
    factories.make_execution()
    runtime.during = lambda request, on_output: on_output("stdout", 5, b"late")
    runtime.script = lambda request: scripted.outcome(stdout=b"earlylate")

    execution, _ = run_next()

    assert execution.output["stdout"] == b"earlylate"


def test_large_output_is_stored_in_pieces_while_it_comes(runtime, monkeypatch):
    monkeypatch.setattr("sandboxes.transcript.KEPT_BYTES", 10)
    factories.make_execution()
    stored = []

    def during(request, on_output):
        for number in range(5):
            on_output("stdout", number * 6, b"abcde\n")
            stored.append(OutputChunk.objects.count())

    runtime.during = during
    runtime.script = lambda request: scripted.outcome(stdout=b"abcde\n" * 5)

    execution, _ = run_next()

    assert stored == [0, 1, 1, 2, 2]
    assert execution.output["stdout"] == b"abcde\n" * 5


def test_the_end_is_announced_after_commit_only(django_capture_on_commit_callbacks):
    heard = []

    def hear(sender, execution_id, agent, **_):
        heard.append(execution_id)

    signals.execution_finished.connect(hear)
    factories.make_execution()
    with django_capture_on_commit_callbacks() as callbacks:
        execution, _ = run_next()
        assert heard == []
    for callback in callbacks:
        callback()
    signals.execution_finished.disconnect(hear)

    assert heard == [execution.pk]


def test_what_waits_a_day_is_given_up_and_costs_nothing():
    now = timezone.now()
    account = factories.make_account()
    before = balance(account).available_ucr
    execution = factories.make_execution(account, now=now)

    assert setbacks.drop_stale(now=now + timedelta(hours=23)) == 0
    assert setbacks.drop_stale(now=now + timedelta(hours=25)) == 1
    ledger.expire_holds(now=now + timedelta(hours=25))

    execution.refresh_from_db()
    assert (execution.state, execution.error) == ("failed", "It waited 24 hours for a sandbox and was given up.")
    assert balance(account).available_ucr == before


def test_renewing_extends_what_is_ours_and_stops_what_is_not(runtime, monkeypatch):
    now = timezone.now()
    for _ in range(3):
        factories.make_execution(now=now)
    ours, taken, ended = (claims.claim(now=now) for _ in range(3))
    setbacks.expire_leases(now=now + timedelta(minutes=1))
    Execution.objects.filter(pk=ours.pk).update(
        state="running", started_at=now, lease_expires_at=now, claimed_by=leases.ME, claimed_at=now
    )
    later = now + timedelta(minutes=2)
    held = [leases.Held(execution, runtime, lambda: later) for execution in (ours, taken, ended)]
    # The third came to its end by itself, just before it was looked for.
    monkeypatch.setattr(leases, "_held", {item.execution.request_id: item for item in held[:2]})

    leases.renew(held)

    assert Execution.objects.get(pk=ours.pk).lease_expires_at == later + leases.LEASE
    assert runtime.cancelled == [taken.request_id]


def test_a_program_cancelled_before_its_sandbox_was_there_is_not_let_run(runtime):
    execution = factories.make_execution()
    claimed = claims.claim(now=timezone.now())
    executions.cancel(execution=execution, by=None, now=timezone.now())

    executor.run(execution=claimed, clock=timezone.now)

    execution.refresh_from_db()
    assert execution.state == "cancelled"
    assert execution.is_settled
    assert claimed.request_id in runtime.cancelled
