"""A remote agent's work is handed out only while its account can pay: credits, status, budgets that block."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from django.utils import timezone

from billing import budgets, ledger, pricing
from billing.models import Account
from federation import attempts, dispatch, wages
from federation.models import Agent, Attempt, Federation, Task
from tests import factories
from tests.integration.billing.test_ledger_races import at_once

pytestmark = pytest.mark.django_db
UCR = 1_000_000


@pytest.fixture
def account() -> Account:
    return factories.make_account()


@pytest.fixture
def federation(account: Account) -> Federation:
    return factories.make_federation(account)


@pytest.fixture
def agent(federation: Federation) -> Agent:
    return factories.make_agent(federation, runtime="remote", max_concurrent_tasks=50)


@pytest.fixture
def lease_ucr(federation: Federation) -> int:
    return pricing.cost_ucr("agent_second", Decimal(federation.lease_seconds))


def assign(federation: Federation, **later: Any) -> list[Attempt]:
    return dispatch.assign(federation_id=federation.pk, now=timezone.now() + timedelta(**later), rng=Random(1))


def claim(agent: Agent, most: int = 1, **later: Any) -> list[Attempt]:
    return dispatch.claim_many(agent=agent, most=most, now=timezone.now() + timedelta(**later))


def leave(account: Account, ucr: int) -> None:
    """Spend all but so much."""
    rest = ledger.balance(account_id=account.pk, now=timezone.now()).available_ucr - ucr
    ledger.charge(account_id=account.pk, amount_ucr=rest, key=f"spent {rest}", source="test", now=timezone.now())


def stands(task: Task) -> tuple[str, str]:
    task.refresh_from_db()
    return task.state, task.reason


def block(account: Account, ucr: int, scope: str = "account", target: str = "") -> None:
    said = {"scope": scope, "target": target, "period": "month", "action": "block", "now": timezone.now()}
    budgets.create(account=account, limit_ucr=ucr, **said)


def test_without_credits_nothing_is_assigned_and_the_task_says_why(
    account: Account, federation: Federation, agent: Agent, lease_ucr: int
) -> None:
    task = factories.make_task(federation)
    leave(account, lease_ucr - 1)

    assert (assign(federation), claim(agent)) == ([], [])

    state, reason = stands(task)
    assert (state, reason.startswith("Insufficient credits: need ")) == ("queued", True)


def test_what_was_assigned_is_queued_again_and_costs_no_attempt(
    account: Account, federation: Federation, agent: Agent
) -> None:
    task = factories.make_task(federation)
    assert len(assign(federation)) == 1
    leave(account, 0)

    assert claim(agent) == []

    state, reason = stands(task)
    assert (state, "Insufficient credits" in reason, task.tries) == ("queued", True, 0)
    assert Attempt.objects.get().state == Attempt.State.REFUSED


def test_it_goes_on_when_there_are_credits_again(account: Account, federation: Federation, agent: Agent) -> None:
    task = factories.make_task(federation)
    assign(federation)
    leave(account, 0)
    claim(agent)
    said = {"category": "promo", "key": "more", "source": "test", "now": timezone.now()}
    ledger.grant(account_id=account.pk, amount_ucr=10 * UCR, **said)

    assert claim(agent) == []
    (begun,) = claim(agent, seconds=attempts.REFUSED_SECONDS + 1)

    assert (begun.task, stands(task)) == (task, ("running", ""))


@pytest.mark.parametrize("scope", ["account", "agent", "meter"])
def test_a_budget_that_blocks_stops_it(
    account: Account, federation: Federation, agent: Agent, lease_ucr: int, scope: str
) -> None:
    task = factories.make_task(federation)
    target = {"agent": str(agent.pk), "meter": "agent_second"}.get(scope, "")
    block(account, lease_ucr - 1, scope, target)

    assert (assign(federation), claim(agent)) == ([], [])

    assert stands(task)[1].startswith("The budget for ")


@pytest.mark.parametrize(("scope", "target"), [("meter", "mcp_call"), ("agent", "another"), ("api_key", None)])
def test_another_s_budget_stops_nothing(
    account: Account, federation: Federation, agent: Agent, scope: str, target: str | None
) -> None:
    factories.make_task(federation)
    block(account, 1, scope, target or str(factories.make_key(account)[0].pk))

    assert len(claim(agent)) == 1


def test_of_two_agents_the_one_with_a_budget_left_goes_on(
    account: Account, federation: Federation, agent: Agent
) -> None:
    other = factories.make_agent(federation, "other", runtime="remote")
    block(account, 1, "agent", str(agent.pk))
    factories.make_task(federation)

    assert [each.agent for each in assign(federation)] == [other]
    assert claim(agent) == []
    assert len(claim(other)) == 1


def test_a_suspended_account_s_agents_begin_nothing(account: Account, federation: Federation, agent: Agent) -> None:
    task = factories.make_task(federation)
    Account.objects.filter(pk=account.pk).update(status="suspended")

    assert (assign(federation), claim(agent)) == ([], [])

    assert "suspended" in stands(task)[1]


def test_a_few_last_credits_start_a_few_tasks(
    account: Account, federation: Federation, agent: Agent, lease_ucr: int
) -> None:
    for _ in range(10):
        factories.make_task(federation)
    leave(account, 3 * lease_ucr)

    assert [len(claim(agent, most=10)) for _ in range(2)] == [3, 0]
    assert Task.objects.filter(state="running").count() == 3


def test_what_is_under_way_ends_and_is_charged(account: Account, federation: Federation, agent: Agent) -> None:
    factories.make_task(federation)
    (begun,) = claim(agent)
    block(account, 1)

    attempts.complete(task_id=begun.task_id, epoch=begun.epoch, result=1, now=begun.started_at + timedelta(seconds=9))

    begun.refresh_from_db()
    assert wages.charge(attempt=begun, now=timezone.now())
    assert begun.task.__class__.objects.get(pk=begun.task_id).state == "succeeded"


def test_managed_agents_ask_when_they_start(account: Account, federation: Federation) -> None:
    """As before: they set aside what their execution may cost."""
    factories.make_agent(federation, runtime="managed")
    factories.make_task(federation, type="execute")
    leave(account, 0)

    assert len(assign(federation)) == 1


@pytest.mark.django_db(transaction=True)
def test_agents_at_once_begin_no_more_than_is_paid_for() -> None:
    account = factories.make_account()
    federation = factories.make_federation(account)
    agents = [factories.make_agent(federation, f"a{n}", runtime="remote", max_concurrent_tasks=5) for n in range(4)]
    for _ in range(20):
        factories.make_task(federation)
    leave(account, 6 * pricing.cost_ucr("agent_second", Decimal(federation.lease_seconds)))

    outcomes = at_once([lambda each=each: claim(each, most=5) for each in agents])

    assert sum(len(begun) for begun in outcomes) == 6
