"""What is told of each thing that happens, in every app, and with which facts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from billing import invoicing, ledger, payments, periods
from billing.models import Account, OutgoingEvent
from billing.outgoing import event_types
from federation import attempts, dispatch, losses
from sandboxes import claims, executions, executor
from scaling import nodes
from tests import factories, ledger_cast, outgoing_cast, payment_cast
from tests.ledger_cast import UCR
from tests.scripted import runtime  # noqa: F401 - executions of these tests run nowhere

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("runtime")]
NOW = timezone.now()
MARCH = periods.Period(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))


@pytest.fixture
def account() -> Account:
    account = ledger_cast.make_account(1000)
    outgoing_cast.make_endpoint(account)
    return account


def _payment(account: Account) -> None:
    payment_cast.buy(account, 10)


def _declined(account: Account) -> None:
    payment_cast.buy(account, 10, "sim_declined")


def _refund(account: Account) -> None:
    payments.refund(payment=payment_cast.buy(account, 10), amount=None, key="r", now=NOW)


def _invoice(account: Account) -> None:
    ledger.set_overdraft(account_id=account.pk, overdraft_ucr=10_000 * UCR)
    ledger_cast.use(account, "mcp_call", 1100)
    draft, _ = invoicing.generate(account=account, period=MARCH, now=MARCH.end)
    found = invoicing.finalize(invoice_id=draft.pk, now=MARCH.end)
    invoicing.mark_paid(invoice_id=found.pk, reason="", now=MARCH.end)


def _execution(account: Account) -> None:
    factories.make_execution(account)
    execution = claims.claim(now=timezone.now())
    executor.run(execution=execution, clock=timezone.now)


def _cancelled(account: Account) -> None:
    execution = factories.make_execution(account)
    executions.cancel(execution=execution, by=None, now=timezone.now())


def _claimed(account: Account, **task: Any) -> Any:
    federation = factories.make_federation(account)
    agent = factories.make_agent(federation, "anna", now=NOW)
    factories.make_task(federation, now=NOW, **task)
    return dispatch.claim(agent=agent, now=NOW)


def _task(account: Account) -> None:
    attempt = _claimed(account)
    said = {"task_id": attempt.task_id, "epoch": attempt.epoch, "agent_id": attempt.agent_id, "now": NOW}
    attempts.complete(result=1, **said)


def _dead_task(account: Account) -> None:
    attempt = _claimed(account, max_attempts=1)
    said = {"task_id": attempt.task_id, "epoch": attempt.epoch, "agent_id": attempt.agent_id, "now": NOW}
    attempts.fail(error="boom", retryable=True, **said)


def _lost(account: Account) -> None:
    factories.make_agent(factories.make_federation(account), "anna", now=NOW)
    losses.lose_silent(now=NOW + timedelta(hours=1))


@pytest.mark.parametrize(
    ("happens", "told"),
    [
        (_payment, [("payment.succeeded", {"purpose": "top_up", "credits": "10.000000"})]),
        (_declined, [("payment.failed", {"failure_code": "card_declined"})]),
        (_refund, [("payment.succeeded", {}), ("refund.succeeded", {"credits": "10.000000"})]),
        (_invoice, [("invoice.opened", {"amount_due": {"amount": "1.00", "currency": "EUR"}}), ("invoice.paid", {})]),
        (_execution, [("execution.finished", {"state": "succeeded", "exit_code": 0, "breach": None, "agent": None})]),
        (_cancelled, [("execution.finished", {"state": "cancelled", "exit_code": None})]),
        (_task, [("task.finished", {"state": "succeeded", "error": ""})]),
        (_dead_task, [("task.dead", {"state": "dead", "error": "boom"})]),
        (_lost, [("agent.lost", {"name": "anna"})]),
    ],
)
def test_it_is_told_once_with_its_facts(
    account: Account, happens: Callable[[Account], None], told: list[tuple[str, dict[str, object]]]
) -> None:
    happens(account)

    found = list(OutgoingEvent.objects.filter(account=account).order_by("pk"))
    assert [event.type for event in found] == [type for type, _ in told]
    for event, (type, facts) in zip(found, told, strict=True):
        assert event.data.items() >= facts.items()
        # The catalogue shows what is really sent.
        assert set(event.data) == set(event_types.BY_NAME[type].example)


def test_a_node_that_becomes_unhealthy_is_told_to_staff_s_endpoints_alone(account: Account) -> None:
    operators = outgoing_cast.make_endpoint(account, by=outgoing_cast.make_staff_of(account), events=["node.unhealthy"])
    for second in range(6):
        at = NOW + timedelta(seconds=second * 5)
        nodes.report(name="alpha", cpu=0.999, memory=0.999, disk=0.999, observed_at=at, now=at)

    event = operators.deliveries.get().event
    assert (event.account_id, event.type, event.data["name"]) == (None, "node.unhealthy", "alpha")
    assert set(event.data) == set(event_types.BY_NAME["node.unhealthy"].example)
    assert outgoing_cast.types(account) == []
