import pytest
from django.utils import timezone

from billing import ledger
from sandboxes import claims, executor
from tests import factories, scripted

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("runtime")]


def run_next():
    execution = claims.claim(now=timezone.now())
    wait = executor.run(execution=execution, clock=timezone.now)
    execution.refresh_from_db()
    return execution, wait


def test_an_execution_runs_to_success_and_is_charged_for_its_seconds(runtime):
    account = factories.make_account()
    before = ledger.balance(account_id=account.pk, now=timezone.now())
    factories.make_execution(account, timeout_seconds=10)
    runtime.script = lambda request: scripted.outcome(stdout=b"hello\n", duration_ms=2000.0)

    execution, wait = run_next()

    after = ledger.balance(account_id=account.pk, now=timezone.now())
    assert (execution.state, execution.exit_code, wait) == ("succeeded", 0, None)
    assert execution.stdout == "hello\n"
    assert execution.lease_expires_at is None
    assert execution.cost_ucr > 0
    assert before.available_ucr - after.available_ucr == execution.cost_ucr
    assert after.held_ucr == 0
