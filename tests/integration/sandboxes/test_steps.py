import datetime

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing import ledger
from sandboxes import claims, executions, lifecycle, steps
from sandboxes.models import Attempt, Execution, Pool, Template
from tests import factories

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("runtime")]
NOW = timezone.now()
READ = "select seq_tup_read from pg_stat_xact_user_tables where relname = 'sandboxes_execution'"
RESULT = {
    "breach": "", "error": "", "exit_code": 0, "duration_ms": 12.5, "stdout_bytes": 0, "stderr_bytes": 0,
    "stdout_truncated": False, "stderr_truncated": False, "artifact_count": 0, "artifacts_truncated": ["\U0001f600\ufffd"],
    "cpu_ms": 1.25, "peak_memory_bytes": 2**40, "disk_bytes": 0, "network_sent_bytes": 0, "network_received_bytes": 0,
    "samples": [[1, 2, 3, 4]], "cost_ucr": 7, "sandbox": "s", "is_warm": True, "startup_ms": 0.5, "started_at": NOW,
}  # fmt: skip


def claimed(**changes):
    factories.make_execution(**changes)
    return claims.claim(now=timezone.now())


def finish(execution, *, state="succeeded", **result):
    return steps.finish(execution, state=state, result=RESULT | result, outcome="finished", now=timezone.now())


def test_what_was_submitted_is_the_row_with_every_column_as_it_was_given():
    asked = {
        "code": "print('\u00e9\U0001f600')", "input": b"\x00\xff", "args": ["a b"], "env": {"A": "1"},
        "files": {"d/f": b"\x00"}, "metadata": {"name": "n"}, "timeout_seconds": 1.5, "agent": "smith",
    }  # fmt: skip

    given = factories.make_execution(**asked)

    row = Execution.objects.get(pk=given.pk)
    for field in Execution._meta.concrete_fields:
        wanted = getattr(given, field.attname)
        assert getattr(row, field.attname) == wanted, field.name
    assert bytes(row.stdin) == asked["input"]
    assert row.file_contents() == asked["files"]


def test_to_submit_is_three_queries_and_to_claim_one():
    account = factories.make_account()
    factories.make_execution(account)

    with CaptureQueriesContext(
        connection,
    ) as queries:
        factories.make_execution(account)
    # Where, at what price, and in line.
    assert len(queries) == 3, [query["sql"][:80] for query in queries]
    with CaptureQueriesContext(connection) as queries:
        claims.claim(now=timezone.now())
    assert len(queries) == 1


def test_a_template_that_went_meanwhile_is_refused_and_nothing_is_held():
    account = factories.make_account()
    execution = Execution(
        account=account, pool=Pool.objects.get(name="python"), template=Template(language="python"), language="python"
    )

    done = steps.submit(execution, most_waiting=5, held_ucr=10, held_until=NOW, now=NOW)

    assert done.outcome == "no_template"
    assert execution._state.adding
    assert ledger.balance(account_id=account.pk, now=NOW).held_ucr == 0


def test_turns_follow_the_accounts_own_and_begin_at_what_is_served():
    one, other = factories.make_account(), factories.make_account()

    assert [factories.make_execution(one).turn for _ in range(3)] == [1, 2, 3]
    assert [factories.make_execution(other).turn for _ in range(2)] == [1, 2]
    for _ in range(4):  # turns 1, 1, 2, 2
        claims.claim(now=timezone.now())
    assert steps.next_turn(factories.make_account().pk, most_waiting=10) == 3
    assert steps.next_turn(one.pk, most_waiting=10) == 4
    assert steps.next_turn(one.pk, most_waiting=1) is None


def test_credits_past_their_expiry_are_booked_first_and_then_not_enough():
    account = factories.make_account()
    later = timezone.now() + datetime.timedelta(days=400)
    before = ledger.balance(account_id=account.pk, now=timezone.now()).available_ucr
    ledger.charge(account_id=account.pk, amount_ucr=before, key="all", source="test", now=timezone.now())
    ledger.grant(
        account_id=account.pk, amount_ucr=10**9, category="promo", key="brief", source="test", now=timezone.now(),
        expires_at=later - datetime.timedelta(days=1),
    )  # fmt: skip

    with pytest.raises(ledger.InsufficientCredits):
        factories.make_execution(account, now=later)

    assert not Execution.objects.exists()
    assert ledger.balance(account_id=account.pk, now=later).posted_ucr == 0


@pytest.mark.parametrize(
    "change",
    [{"attempt": 2}, {"claimed_by": "another"}, {"state": "queued", "lease_expires_at": None, "claimed_by": ""}],
    ids=["a later attempt", "another worker", "taken back"],
)
def test_an_attempt_that_lost_its_execution_writes_nothing(change):
    execution = claimed()
    Execution.objects.filter(pk=execution.pk).update(**change)

    assert not steps.start(execution)
    assert not steps.hold_row(execution)
    assert not finish(execution)

    assert not Attempt.objects.exists()
    assert Execution.objects.get(pk=execution.pk).finished_at is None


def test_how_it_ended_is_written_as_it_was_said():
    execution = claimed()

    assert steps.hold_row(execution)
    assert finish(execution)

    row, attempt = Execution.objects.get(pk=execution.pk), Attempt.objects.get()
    assert {name: getattr(row, name) for name in RESULT} == RESULT
    assert (row.state, row.lease_expires_at) == ("succeeded", None)
    assert (attempt.number, attempt.sandbox, attempt.is_warm, attempt.duration_ms) == (1, "s", True, 12.5)
    assert attempt.claimed_at == row.claimed_at
    assert not finish(execution)


def test_of_a_cancelled_one_state_and_end_are_who_cancelled_its():
    execution = claimed()
    executions._mark_cancelled(execution, NOW)
    execution = Execution.objects.get(pk=execution.pk)

    assert not steps.start(execution)
    assert finish(execution, state="failed", breach="timeout", error="late", exit_code=1)

    row = Execution.objects.get(pk=execution.pk)
    assert (row.state, row.finished_at, row.breach, row.error) == (lifecycle.CANCELLED, NOW, "", "")
    assert (row.cpu_ms, row.cost_ucr) == (1.25, 7)


def test_a_long_queue_is_read_by_the_indexes_that_have_its_order():
    """The functions' plans are made once for a connection, when the queue may have been empty."""
    account = factories.make_account()
    first = factories.make_execution(account)
    copies = [
        Execution(
            **{name: getattr(first, name) for name in ("account_id", "pool_id", "template_id", "language")}, turn=turn
        )
        for turn in range(2, 2002)
    ]
    Execution.objects.bulk_create(copies)

    with connection.cursor() as cursor:
        cursor.execute(
            "select seq_tup_read, idx_tup_read from pg_stat_xact_user_tables join (select sum(idx_tup_read) idx_tup_read from pg_stat_user_indexes where relname = 'sandboxes_execution') i on true where relname = 'sandboxes_execution'"
        )
        before = cursor.fetchone()[0]
        assert steps.next_turn(account.pk, most_waiting=10_000) == 2002
        assert claims.claim(now=timezone.now()).pk == first.pk
        cursor.execute(READ)
        assert cursor.fetchone()[0] == before
