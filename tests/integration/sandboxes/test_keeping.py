"""The life of long-lived sandboxes around a scripted daemon: opening, money, time, death, and what runs in them."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from billing import ledger, verify
from billing.keys import KeyPrincipal
from billing.models import Account, UsageRecord
from sandboxes import (
    claims,
    engine,
    executions,
    executor,
    keeper,
    keeping,
    lifetimes,
    programs,
    setbacks,
    stock,
    templates,
)
from sandboxes.models import Attempt, Execution, Sandbox
from sandboxes.runtimes import InvalidRequest, Opening, RuntimeLost, RuntimeUnavailable, SandboxBusy
from tests import factories, scripted

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("runtime")]

# Credits are counted to a millionth; an hour of a sandbox is 100 credits.
MINUTE_UCR = 1_666_667


@pytest.fixture
def account() -> Account:
    return factories.make_account()


def balance(account: Account) -> ledger.Balance:
    return ledger.balance(account_id=account.pk, now=timezone.now())


def later(sandbox: Sandbox, seconds: float) -> datetime:
    return sandbox.opened_at + timedelta(seconds=seconds)


def seen(sandbox: Sandbox) -> Sandbox:
    return Sandbox.objects.with_activity().get(pk=sandbox.pk)


def submit(sandbox: Sandbox, **changes: Any) -> Execution:
    return factories.make_execution(sandbox.account, sandbox=str(sandbox.pk), **changes)


def run_next() -> Execution:
    execution = claims.claim_in_sandbox(now=timezone.now())
    executor.run(execution=execution, clock=timezone.now)
    execution.refresh_from_db()
    return execution


def sandbox_seconds() -> list[Decimal]:
    return list(UsageRecord.objects.order_by("occurred_at").values_list("quantity", flat=True))


# --- opening


def test_a_sandbox_is_opened_with_what_was_asked(runtime, account):
    sandbox = factories.make_sandbox(
        account, ttl_seconds=600, limits={"memory_mb": 128}, env={"MODE": "paper"}, metadata={"name": "bench"}
    )

    [opening] = runtime.kept.values()
    assert (sandbox.state, sandbox.node, sandbox.runtime, sandbox.name) == ("ready", engine.node(), "local", "bench")
    assert (opening.id, opening.language, dict(opening.env)) == (str(sandbox.pk), "python", {"MODE": "paper"})
    assert (opening.limits.memory_mb, opening.limits.disk_mb) == (128, 112)
    assert opening.expires_in_seconds == 600
    assert sandbox.expires_at == sandbox.created_at + timedelta(seconds=600)


def test_its_first_minute_is_held_before_it_is_opened(account):
    before = balance(account)

    sandbox = factories.make_sandbox(account, is_open=False)

    assert sandbox.state == "creating"
    assert balance(account).held_ucr == MINUTE_UCR
    assert balance(account).posted_ucr == before.posted_ucr


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"template": "cobol"}, "template"),
        ({"ttl_seconds": 0}, "ttl_seconds"),
        ({"ttl_seconds": 86_401}, "ttl_seconds"),
        ({"limits": {"memory_mb": 1}}, "limits.memory_mb"),
        ({"limits": {"memory_mb": 64, "disk_mb": 64}}, "limits.disk_mb"),
        ({"env": {"A B": "c"}}, "env"),
        ({"metadata": {"a": 1}}, "metadata"),
    ],
)
def test_what_cannot_be_opened_is_refused_and_nothing_is_written(account, changes, field):
    with pytest.raises(programs.Refused) as refused:
        factories.make_sandbox(account, **changes)

    assert set(refused.value.errors) == {field}
    assert not Sandbox.objects.exists()
    assert balance(account).held_ucr == 0


def test_without_credits_for_its_first_minute_it_is_refused():
    account = factories.make_account()
    spare = balance(account).available_ucr - 1000
    ledger.charge(account_id=account.pk, amount_ucr=spare, key="spent", source="test", now=timezone.now())

    with pytest.raises(ledger.InsufficientCredits):
        factories.make_sandbox(account)

    assert not Sandbox.objects.exists()


def test_a_network_is_refused_where_there_is_none(account):
    with pytest.raises(executions.NetworkNotAllowed):
        factories.make_sandbox(account, network=True)


def test_a_node_without_room_is_asked_once_and_in_the_end_it_fails_with_the_reason(runtime, account):
    asked = []

    def refuse(opening: Opening) -> None:
        asked.append(opening.id)
        raise RuntimeUnavailable(["this node keeps 10 sandboxes already"])

    runtime.opening = refuse
    sandbox = factories.make_sandbox(account, is_open=False)

    waits = [lifetimes.open_here(sandbox_id=sandbox.pk, clock=timezone.now) for _ in range(lifetimes.MOST_TRIES)]

    sandbox.refresh_from_db()
    assert waits == [lifetimes.AGAIN_SECONDS] * (lifetimes.MOST_TRIES - 1) + [None]
    assert len(asked) == 1
    assert sandbox.state == "failed"
    assert f"{engine.node()}: this node keeps 10 sandboxes already." in sandbox.error
    assert (balance(account).held_ucr, sandbox.cost_ucr, UsageRecord.objects.count()) == (0, 0, 0)


def test_another_node_takes_what_one_could_not(runtime, account, settings):
    settings.NODE_NAME = "full"

    def refuse(opening: Opening) -> None:
        if settings.NODE_NAME == "full":
            raise RuntimeUnavailable(["no room"])

    runtime.opening = refuse
    sandbox = factories.make_sandbox(account, is_open=False)
    lifetimes.open_here(sandbox_id=sandbox.pk, clock=timezone.now)
    settings.NODE_NAME = "free"

    lifetimes.open_here(sandbox_id=sandbox.pk, clock=timezone.now)

    sandbox.refresh_from_db()
    assert (sandbox.state, sandbox.node) == ("ready", "free")


def test_a_template_that_the_node_lacks_is_brought_first(runtime, account):
    template = factories.make_template(account, state="ready")
    sandbox = factories.make_sandbox(account, is_open=False, template=template.name)

    wait = lifetimes.open_here(sandbox_id=sandbox.pk, clock=timezone.now)
    sandbox.refresh_from_db()
    waiting = (sandbox.state, sandbox.tries, sandbox.node)
    runtime.templates.add(template.address)
    engine.forget()
    lifetimes.open_here(sandbox_id=sandbox.pk, clock=timezone.now)

    stock.wait()
    sandbox.refresh_from_db()
    assert (wait, waiting) == (setbacks.TEMPLATE_SECONDS, ("creating", 0, ""))
    assert (sandbox.state, runtime.kept[str(sandbox.pk)].template) == ("ready", template.address)


def test_a_template_is_in_use_as_long_as_the_sandbox_is_open(account):
    template = factories.make_template(account, state="ready")
    sandbox = factories.make_sandbox(account, is_open=False, template=template.name)

    with pytest.raises(templates.TemplateInUse, match="1 long-lived sandbox"):
        templates.delete_template(template=template, by=account.memberships.get().user)
    keeping.close(sandbox=sandbox, by=None, now=timezone.now())
    templates.delete_template(template=template, by=account.memberships.get().user)

    sandbox.refresh_from_db()
    assert (sandbox.template, sandbox.language) == (None, "python")


def test_a_template_that_is_not_built_yet_opens_nothing(account):
    template = factories.make_template(account)

    with pytest.raises(programs.Refused) as refused:
        factories.make_sandbox(account, template=template.name)

    assert refused.value.errors == {"template": ["It is building, not ready."]}


def test_an_invalid_opening_fails_at_once(runtime, account):
    def refuse(opening: Opening) -> None:
        raise InvalidRequest("template: this is no template's address")

    runtime.opening = refuse
    sandbox = factories.make_sandbox(account, is_open=False)

    lifetimes.open_here(sandbox_id=sandbox.pk, clock=timezone.now)

    sandbox.refresh_from_db()
    assert (sandbox.state, balance(account).held_ucr) == ("failed", 0)


def test_while_one_worker_opens_it_another_does_not(runtime, account):
    sandbox = factories.make_sandbox(account, is_open=False)
    second = []
    runtime.opening = lambda opening: second.append(lifetimes.open_here(sandbox_id=sandbox.pk, clock=timezone.now))

    lifetimes.open_here(sandbox_id=sandbox.pk, clock=timezone.now)

    assert second == [None]
    assert len(runtime.kept) == 1


def test_a_worker_that_died_while_opening_is_followed_by_another(runtime, account):
    sandbox = factories.make_sandbox(account, is_open=False)
    died = timezone.now()
    Sandbox.objects.filter(pk=sandbox.pk).update(
        claimed_by="a dead one", lease_expires_at=died + lifetimes.OPENING_LEASE, node=engine.node(), runtime="local"
    )
    after = died + lifetimes.OPENING_LEASE + timedelta(seconds=1)

    assert lifetimes.to_open(now=died) == []
    assert lifetimes.to_open(now=after) == [sandbox.pk]
    lifetimes.open_here(sandbox_id=sandbox.pk, clock=lambda: after)

    sandbox.refresh_from_db()
    assert sandbox.state == "ready"


def test_one_that_is_closed_while_it_opens_is_closed_in_the_daemon_too(runtime, account):
    sandbox = factories.make_sandbox(account, is_open=False)
    runtime.opening = lambda opening: keeping.close(sandbox=sandbox, by=None, now=timezone.now())

    lifetimes.open_here(sandbox_id=sandbox.pk, clock=timezone.now)

    sandbox.refresh_from_db()
    assert (sandbox.state, runtime.kept) == ("gone", {})
    assert balance(account).held_ucr == 0


@pytest.mark.parametrize(("ttl_seconds", "given_up"), [(3600, lifetimes.OPENS_WITHIN), (60, timedelta(seconds=60))])
def test_what_nobody_opened_in_time_is_given_up(account, ttl_seconds, given_up):
    sandbox = factories.make_sandbox(account, is_open=False, ttl_seconds=ttl_seconds)

    lifetimes.sweep(now=sandbox.created_at + given_up + timedelta(seconds=1))

    sandbox.refresh_from_db()
    assert (sandbox.state, sandbox.error) == ("failed", "It could not be opened. No node took it in time.")
    assert balance(account).held_ucr == 0


# --- money


def test_each_minute_is_charged_when_it_is_over_and_the_next_is_held(account):
    sandbox = factories.make_sandbox(account)

    for second in (59, 60, 61, 119, 120):
        lifetimes.sweep(now=later(sandbox, second))

    sandbox.refresh_from_db()
    assert sandbox_seconds() == [Decimal(60), Decimal(60)]
    assert sandbox.cost_ucr == 120 * 100_000_000 // 3600
    assert sandbox.charged_until == later(sandbox, 120)
    assert balance(account).held_ucr == MINUTE_UCR


def test_its_minutes_are_recorded_for_the_key_that_opened_it(account):
    key, _ = factories.make_key(account)
    sandbox = factories.make_sandbox(account, by=KeyPrincipal(key))

    lifetimes.sweep(now=later(sandbox, 150))

    assert set(UsageRecord.objects.values_list("meter", "api_key")) == {("sandbox_second", key.pk)}


def test_it_costs_nothing_before_it_is_open(account):
    now = timezone.now()
    sandbox = factories.make_sandbox(account, is_open=False, now=now)
    lifetimes.open_here(sandbox_id=sandbox.pk, clock=lambda: now + timedelta(seconds=20))
    sandbox.refresh_from_db()

    keeping.close(sandbox=sandbox, by=None, now=later(sandbox, 10))

    assert sandbox_seconds() == [Decimal(10)]


def test_its_end_charges_the_part_of_the_minute_and_lets_the_rest_go(account):
    before = balance(account)
    sandbox = factories.make_sandbox(account)
    lifetimes.sweep(now=later(sandbox, 60))

    keeping.close(sandbox=sandbox, by=None, now=later(sandbox, 75.5))

    sandbox.refresh_from_db()
    assert sandbox_seconds() == [Decimal(60), Decimal("15.5")]
    assert before.posted_ucr - balance(account).posted_ucr == sandbox.cost_ucr
    assert balance(account).held_ucr == 0
    assert all(check.ok for check in verify.checks())


def test_a_sweep_that_comes_late_charges_every_minute_once(account):
    sandbox = factories.make_sandbox(account, ttl_seconds=3600)
    for _ in range(3):
        lifetimes.sweep(now=later(sandbox, 605))

    keeping.close(sandbox=sandbox, by=None, now=later(sandbox, 605))
    keeping.close(sandbox=sandbox, by=None, now=later(sandbox, 700))

    assert sum(sandbox_seconds()) == 605
    assert len(sandbox_seconds()) == 11


def test_however_it_is_cut_the_time_costs_what_it_costs(account):
    one = factories.make_sandbox(account, ttl_seconds=3600)
    keeping.close(sandbox=one, by=None, now=later(one, 33.333))
    two = factories.make_sandbox(account, ttl_seconds=3600)
    for second in range(60, 600, 60):
        lifetimes.sweep(now=later(two, second))
    keeping.close(sandbox=two, by=None, now=later(two, 566.667))

    costs = Sandbox.objects.values_list("cost_ucr", flat=True)
    assert abs(sum(costs) - 600 * 100_000_000 // 3600) <= 1


def test_no_second_beyond_its_time_is_charged(account):
    sandbox = factories.make_sandbox(account, ttl_seconds=90)

    lifetimes.sweep(now=later(sandbox, 60))
    held = balance(account).held_ucr
    lifetimes.sweep(now=later(sandbox, 300))

    sandbox.refresh_from_db()
    assert held == 833_334
    assert (sandbox.state, sandbox.error, sandbox.why_ended) == ("gone", "", "Its time-to-live is over.")
    assert sum(sandbox_seconds()) == 90


def test_when_credits_run_out_it_is_closed_and_says_so(runtime, account):
    sandbox = factories.make_sandbox(account, ttl_seconds=3600)
    waiting = [submit(sandbox, queue=True) for _ in range(2)]
    spare = balance(account).available_ucr
    ledger.charge(account_id=account.pk, amount_ucr=spare, key="spent", source="test", now=timezone.now())

    lifetimes.sweep(now=later(sandbox, 62))

    sandbox.refresh_from_db()
    assert sandbox.state == "gone"
    assert sandbox.error.startswith("It was closed because its next minute could not be paid. Insufficient credits:")
    assert sandbox_seconds() == [Decimal(60)]
    assert balance(account).held_ucr == 0
    errors = Execution.objects.filter(pk__in=[each.pk for each in waiting]).values_list("state", "error")
    assert {(state, "could not be paid" in error) for state, error in errors} == {("failed", True)}
    keeper.keep()
    assert runtime.kept == {}


def test_a_suspended_account_has_its_sandboxes_closed(runtime, account):
    sandbox = factories.make_sandbox(account)
    Account.objects.filter(pk=account.pk).update(status="suspended")

    lifetimes.sweep(now=later(sandbox, 30))

    sandbox.refresh_from_db()
    assert (sandbox.state, sandbox.error) == ("gone", "It was closed because its account is not active.")
    assert sandbox_seconds() == [Decimal(30)]


def test_a_crash_between_charge_and_row_leaves_both_undone(account, monkeypatch):
    sandbox = factories.make_sandbox(account)

    def die(row: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sandboxes.lifetimes.live.sandbox_changed", die)
    with pytest.raises(KeyboardInterrupt), transaction.atomic():
        lifetimes.renew(sandbox_id=sandbox.pk, now=later(sandbox, 60))
    monkeypatch.undo()
    assert sandbox_seconds() == []

    lifetimes.renew(sandbox_id=sandbox.pk, now=later(sandbox, 60))

    assert sandbox_seconds() == [Decimal(60)]


# --- time


def test_more_time_is_counted_from_now_and_never_shortens(runtime, account):
    sandbox = factories.make_sandbox(account, ttl_seconds=300)
    now = later(sandbox, 100)

    longer = keeping.extend(sandbox=sandbox, ttl_seconds=600, by=None, now=now)
    same = keeping.extend(sandbox=sandbox, ttl_seconds=10, by=None, now=now)

    assert longer.expires_at == same.expires_at == now + timedelta(seconds=600)
    assert (longer.ttl_seconds, same.ttl_seconds) == (600, 600)
    assert runtime.extended[0] == (str(sandbox.pk), 600)


def test_it_lives_a_day_at_most(account):
    sandbox = factories.make_sandbox(account, ttl_seconds=86_400)
    now = later(sandbox, 3600)

    with pytest.raises(programs.Refused, match="not valid") as refused:
        keeping.extend(sandbox=sandbox, ttl_seconds=86_400, by=None, now=now)

    assert refused.value.errors == {"ttl_seconds": ["Give a number from 1 to 82800."]}


def test_what_has_ended_is_not_extended(account):
    sandbox = factories.make_sandbox(account)
    keeping.close(sandbox=sandbox, by=None, now=timezone.now())

    with pytest.raises(lifetimes.Ended, match="It was closed. Its files are gone"):
        keeping.extend(sandbox=sandbox, ttl_seconds=60, by=None, now=timezone.now())


def test_past_its_time_it_has_ended_even_before_anybody_wrote_that_down(account):
    sandbox = factories.make_sandbox(account, ttl_seconds=60)
    now = later(sandbox, 61)

    with pytest.raises(lifetimes.Ended, match="time-to-live"):
        keeping.extend(sandbox=sandbox, ttl_seconds=60, by=None, now=now)
    with pytest.raises(lifetimes.Ended, match="time-to-live"):
        submit(sandbox, now=now)


def test_a_daemon_that_would_end_it_too_soon_is_told(runtime, account):
    sandbox = factories.make_sandbox(account, ttl_seconds=60)
    Sandbox.objects.filter(pk=sandbox.pk).update(expires_at=sandbox.created_at + timedelta(seconds=900))

    keeper.keep()
    keeper.keep()

    [(told, seconds)] = runtime.extended
    assert told == str(sandbox.pk)
    assert 890 < seconds <= 900


def test_closing_takes_it_from_the_daemon_at_once(runtime, account):
    sandbox = factories.make_sandbox(account)

    keeping.close(sandbox=sandbox, by=None, now=timezone.now())

    assert runtime.kept == {}


# --- what the daemon has


def test_a_sandbox_that_the_daemon_has_lost_is_failed_and_its_minute_is_free(runtime, account):
    sandbox = factories.make_sandbox(account)
    runtime.die(str(sandbox.pk), "Its first process ended.")

    keeper.keep()

    sandbox.refresh_from_db()
    assert (sandbox.state, sandbox.error) == ("failed", "The sandbox was lost. Its first process ended.")
    assert (sandbox.cost_ucr, balance(account).held_ucr, UsageRecord.objects.count()) == (0, 0, 0)


def test_a_restarted_daemon_has_lost_them_all(runtime, account):
    sandbox = factories.make_sandbox(account)
    runtime.kept.clear()

    keeper.keep()

    sandbox.refresh_from_db()
    assert sandbox.error == "The sandbox was lost. Its sandbox daemon has been restarted."


def test_one_that_the_daemon_ended_at_its_time_is_gone_and_not_lost(runtime, account):
    sandbox = factories.make_sandbox(account, ttl_seconds=1)
    runtime.die(str(sandbox.pk), "Its time-to-live is over.")

    keeper.keep()

    sandbox.refresh_from_db()
    assert (sandbox.state, sandbox.why_ended) == ("gone", "Its time-to-live is over.")
    assert sandbox_seconds() == [Decimal(1)]


def test_a_sandbox_that_nobody_knows_is_closed(runtime, account):
    runtime.open(Opening(id="stranger", language="python", expires_in_seconds=60))
    ours = factories.make_sandbox(account)

    keeper.keep()

    assert set(runtime.kept) == {str(ours.pk)}


def test_one_that_is_just_being_opened_is_no_stranger(runtime, account):
    sandbox = factories.make_sandbox(account, is_open=False)
    runtime.opening = lambda opening: (runtime.kept.update({opening.id: opening}), keeper.keep())

    lifetimes.open_here(sandbox_id=sandbox.pk, clock=timezone.now)
    keeper.keep()

    sandbox.refresh_from_db()
    assert (sandbox.state, set(runtime.kept)) == ("ready", {str(sandbox.pk)})


def test_of_a_daemon_that_is_away_nothing_is_concluded(runtime, account):
    sandbox = factories.make_sandbox(account)
    runtime.reasons = ["away"]

    keeper.keep()

    sandbox.refresh_from_db()
    assert sandbox.state == "ready"


def test_sandboxes_of_other_nodes_are_theirs(runtime, account, settings):
    settings.NODE_NAME = "elsewhere"
    sandbox = factories.make_sandbox(account)
    runtime.kept.clear()
    settings.NODE_NAME = "here"

    keeper.keep()

    sandbox.refresh_from_db()
    assert sandbox.state == "ready"


def test_a_node_that_is_not_heard_for_a_minute_has_lost_its_sandboxes(account):
    sandbox = factories.make_sandbox(account, ttl_seconds=3600)

    lifetimes.sweep(now=later(sandbox, 61))
    Sandbox.objects.update(heard_at=timezone.now() - timedelta(minutes=1))
    for _ in range(lifetimes.MOST_UNHEARD - 1):
        lifetimes.sweep(now=later(sandbox, 130))
    sandbox.refresh_from_db()
    assert (sandbox.state, len(sandbox_seconds())) == ("ready", 1)
    lifetimes.sweep(now=later(sandbox, 200))

    sandbox.refresh_from_db()
    assert sandbox.state == "failed"
    assert "has not been heard of" in sandbox.error
    # The minute that was over while it was still heard, and none of those since.
    assert sandbox_seconds() == [Decimal(60)]


def test_a_node_that_is_heard_again_keeps_them(account):
    sandbox = factories.make_sandbox(account, ttl_seconds=3600)

    for _ in range(3):
        for _ in range(lifetimes.MOST_UNHEARD):
            lifetimes.sweep(now=later(sandbox, 1))
        keeper.keep()

    sandbox.refresh_from_db()
    assert (sandbox.state, sandbox.unheard) == ("ready", 0)


def test_what_was_silent_until_its_time_was_over_is_not_charged_for_that(account):
    sandbox = factories.make_sandbox(account, ttl_seconds=3600)
    Sandbox.objects.update(heard_at=timezone.now() - timedelta(minutes=1))

    lifetimes.sweep(now=later(sandbox, 4000))

    sandbox.refresh_from_db()
    assert (sandbox.state, sandbox_seconds(), balance(account).held_ucr) == ("gone", [], 0)


def test_a_jump_of_the_clock_is_no_silence(account):
    sandbox = factories.make_sandbox(account, ttl_seconds=3600)

    lifetimes.sweep(now=later(sandbox, 1800))

    sandbox.refresh_from_db()
    assert sandbox.state == "ready"
    assert sum(sandbox_seconds()) == 1800


# --- executions in it


def test_an_execution_runs_in_it_and_costs_nothing_more(runtime, account):
    sandbox = factories.make_sandbox(account, env={"A": "1"})
    held = balance(account).held_ucr
    execution = submit(sandbox, files={"x": "y"}, timeout_seconds=7)
    runtime.script = lambda request: scripted.outcome(stdout=b"hello\n")

    ended = run_next()

    [request] = runtime.requests
    assert (ended.pk, ended.state, ended.stdout) == (execution.pk, "succeeded", "hello\n")
    assert (request.sandbox, request.files, request.timeout_seconds) == (str(sandbox.pk), {"x": b"y"}, 7)
    assert (ended.cost_ucr, balance(account).held_ucr, UsageRecord.objects.count()) == (0, held, 0)
    assert (ended.node, ended.pool, ended.template) == (sandbox.node, None, sandbox.template)


def test_pools_do_not_claim_what_is_for_a_sandbox_nor_the_other_way_round(account):
    sandbox = factories.make_sandbox(account)
    submit(sandbox)

    assert claims.claim(now=timezone.now()) is None
    assert claims.waiting(now=timezone.now(), most=9) == 0
    factories.make_execution(account)
    assert claims.claim_in_sandbox(now=timezone.now()).kept_sandbox_id == sandbox.pk
    assert claims.claim_in_sandbox(now=timezone.now()) is None


def test_what_runs_in_sandboxes_takes_no_room_from_pools(account, settings):
    settings.MAX_SANDBOXES = 1
    submit(factories.make_sandbox(account))
    factories.make_execution(account)

    assert claims.claim_in_sandbox(now=timezone.now())
    assert claims.claim(now=timezone.now())


def test_only_the_node_that_has_it_claims_it(account, settings):
    settings.NODE_NAME = "a"
    sandbox = factories.make_sandbox(account)
    submit(sandbox)

    settings.NODE_NAME = "b"
    elsewhere = claims.claim_in_sandbox(now=timezone.now())
    waiting = claims.waiting_in_sandboxes(now=timezone.now(), most=9)
    settings.NODE_NAME = "a"

    assert elsewhere is None
    assert waiting == {"a": 1}
    assert claims.claim_in_sandbox(now=timezone.now())


def test_a_busy_sandbox_is_refused_unless_one_stands_in_line(account):
    sandbox = factories.make_sandbox(account)
    first = submit(sandbox)

    with pytest.raises(executions.SandboxIsBusy):
        submit(sandbox)
    waiting = [submit(sandbox, queue=True) for _ in range(3)]

    order = []
    for _ in range(4):
        assert seen(sandbox).shown_state == "ready"
        execution = claims.claim_in_sandbox(now=timezone.now())
        assert claims.claim_in_sandbox(now=timezone.now()) is None
        assert seen(sandbox).shown_state == "running"
        executor.run(execution=execution, clock=timezone.now)
        order.append(execution.pk)
    assert order == [first.pk, *[each.pk for each in waiting]]
    assert submit(sandbox).state == "queued"


def test_sandboxes_take_turns_with_each_other(account):
    ours, other = factories.make_sandbox(account), factories.make_account(name="Other")
    theirs = factories.make_sandbox(other)
    for _ in range(3):
        submit(ours, queue=True)
    submit(theirs, queue=True)

    claimed = [claims.claim_in_sandbox(now=timezone.now()).account_id for _ in range(2)]

    assert set(claimed) == {account.pk, other.pk}


def test_the_database_itself_lets_no_two_run_at_once(account):
    sandbox = factories.make_sandbox(account)
    submit(sandbox)
    second = submit(sandbox, queue=True)
    assert claims.claim_in_sandbox(now=timezone.now())

    lease = {"state": "starting", "lease_expires_at": timezone.now()}
    with pytest.raises(IntegrityError, match="one_execution_at_once"), transaction.atomic():
        Execution.objects.filter(pk=second.pk).update(**lease)


def test_only_what_goes_over_the_network_costs_more(runtime, account, settings):
    settings.SANDBOX_NETWORK = "outward"
    sandbox = factories.make_sandbox(account, network=True)
    submit(sandbox)
    runtime.script = lambda request: scripted.outcome(network_sent_bytes=1_000_000)

    ended = run_next()

    assert UsageRecord.objects.get().meter == "data_byte"
    assert ended.cost_ucr == UsageRecord.objects.get().cost_ucr > 0
    assert (ended.network, next(iter(runtime.kept.values())).network) == (True, True)


def test_the_database_lets_none_of_them_cost_anything_else(account):
    execution = submit(factories.make_sandbox(account))

    with pytest.raises(IntegrityError, match="is_paid_by_it"), transaction.atomic():
        Execution.objects.filter(pk=execution.pk).update(cost_ucr=1)


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"limits": {"cpu": 2}}, "limits"), ({"network": True}, "network"), ({"pool": "python"}, "sandbox")],
)
def test_what_the_sandbox_decides_cannot_be_asked_of_it(account, changes, field):
    with pytest.raises(programs.Refused) as refused:
        submit(factories.make_sandbox(account), **changes)

    assert field in refused.value.errors


def test_somebody_elses_and_no_sandbox_are_refused_in_the_same_words(account):
    theirs = factories.make_sandbox(factories.make_account(name="Other"))

    said = []
    for name in (str(theirs.pk), "0198c0de-0000-7000-8000-000000000000", "nonsense", "\0"):
        with pytest.raises(programs.Refused) as refused:
            factories.make_execution(account, sandbox=name)
        said.append(refused.value.errors)

    assert said == [{"sandbox": ["There is no such sandbox."]}] * 4


def test_a_suspended_account_runs_nothing_in_it(account):
    sandbox = factories.make_sandbox(account)
    Account.objects.filter(pk=account.pk).update(status="suspended")
    sandbox.account.refresh_from_db()

    with pytest.raises(ledger.AccountNotActive):
        submit(sandbox)


def test_an_execution_may_come_before_its_sandbox_is_ready(account):
    sandbox = factories.make_sandbox(account, is_open=False)
    execution = submit(sandbox)
    assert claims.claim_in_sandbox(now=timezone.now()) is None

    lifetimes.open_here(sandbox_id=sandbox.pk, clock=timezone.now)

    assert run_next().pk == execution.pk


def test_an_execution_whose_sandbox_ends_under_it_fails_once_with_the_reason_and_what_it_printed(runtime, account):
    sandbox = factories.make_sandbox(account)
    submit(sandbox)

    def end(request: Any, on_output: Any) -> None:
        on_output("stdout", 0, b"half")
        keeping.close(sandbox=sandbox, by=None, now=timezone.now())

    runtime.during = end
    ended = run_next()

    assert (ended.state, ended.attempt, ended.exit_code) == ("failed", 1, None)
    assert ended.error == "Its sandbox ended while it ran. It was closed."
    assert ended.stdout == "half"
    assert ended.is_settled
    assert ended.attempts.get().outcome == Attempt.Outcome.LOST


def test_a_lost_daemon_fails_it_and_it_is_not_run_again(runtime, account):
    def lose(request: Any) -> None:
        raise RuntimeLost("the daemon went away")

    submit(factories.make_sandbox(account))
    runtime.script = lose

    ended = run_next()

    assert (ended.state, ended.attempt) == ("failed", 1)
    assert "not run again by itself. the daemon went away" in ended.error


def test_a_dead_worker_fails_it_and_the_sandbox_serves_the_next(account):
    sandbox = factories.make_sandbox(account)
    submit(sandbox)
    later_one = submit(sandbox, queue=True)
    claimed = claims.claim_in_sandbox(now=timezone.now())

    setbacks.expire_leases(now=claimed.lease_expires_at + timedelta(seconds=1))

    claimed.refresh_from_db()
    assert (claimed.state, claimed.is_settled) == ("failed", True)
    assert run_next().pk == later_one.pk


def test_a_sandbox_that_still_serves_an_earlier_attempt_is_asked_again(runtime, account):
    def busy(request: Any) -> None:
        raise SandboxBusy("another execution runs in this sandbox")

    execution = submit(factories.make_sandbox(account))
    runtime.before = busy

    wait = executor.run(execution=claims.claim_in_sandbox(now=timezone.now()), clock=timezone.now)

    execution.refresh_from_db()
    assert wait
    assert (execution.state, execution.attempt) == ("queued", 1)


def test_cancelling_one_leaves_the_sandbox_to_the_next(runtime, account):
    sandbox = factories.make_sandbox(account)
    running, waiting = submit(sandbox), submit(sandbox, queue=True)
    runtime.during = lambda request, _: executions.cancel(execution=running, by=None, now=timezone.now())

    ended = run_next()
    runtime.during = lambda request, _: None

    assert (ended.pk, ended.state, ended.cost_ucr) == (running.pk, "cancelled", 0)
    assert run_next().pk == waiting.pk


def test_a_waiting_one_is_cancelled_without_any_hold(account):
    execution = submit(factories.make_sandbox(account))

    executions.cancel(execution=execution, by=None, now=timezone.now())

    assert execution.state == "cancelled"


def test_running_it_again_goes_to_the_same_sandbox(account):
    sandbox = factories.make_sandbox(account)
    submit(sandbox)
    again = executions.rerun(execution=run_next(), by=None, now=timezone.now())
    keeping.close(sandbox=sandbox, by=None, now=timezone.now())

    assert again.kept_sandbox_id == sandbox.pk
    with pytest.raises(lifetimes.Ended):
        executions.rerun(execution=again, by=None, now=timezone.now())


# --- races


def at_once(*acts: Any) -> list[object]:
    """What came of acts that begin together, each on a connection of its own."""
    gate, results = threading.Barrier(len(acts)), [None] * len(acts)

    def act(number: int) -> None:
        gate.wait()
        try:
            results[number] = acts[number]()
        except Exception as problem:  # noqa: BLE001 - what came of it is the result
            results[number] = problem
        finally:
            connection.close()

    threads = [threading.Thread(target=act, args=(number,)) for number in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


@pytest.mark.django_db(transaction=True)
def test_of_many_who_come_at_once_one_gets_the_sandbox(account):
    sandbox = factories.make_sandbox(account)

    results = at_once(*[lambda: submit(sandbox)] * 5)

    assert sum(isinstance(each, Execution) for each in results) == 1
    assert sum(isinstance(each, executions.SandboxIsBusy) for each in results) == 4


@pytest.mark.django_db(transaction=True)
def test_of_two_workers_one_claims(account):
    sandbox = factories.make_sandbox(account)
    for _ in range(2):
        submit(sandbox, queue=True)

    results = at_once(*[lambda: claims.claim_in_sandbox(now=timezone.now())] * 4)

    assert [each for each in results if isinstance(each, Exception)] == []
    assert sum(each is not None for each in results) == 1


@pytest.mark.django_db(transaction=True)
def test_many_sweeps_and_ends_at_once_charge_each_second_once(account):
    sandbox = factories.make_sandbox(account, ttl_seconds=3600)
    now = later(sandbox, 130)

    results = at_once(
        *[lambda: lifetimes.sweep(now=now)] * 3,
        *[lambda: keeping.close(sandbox=sandbox, by=None, now=now)] * 2,
    )

    assert [each for each in results if isinstance(each, Exception)] == []
    assert sum(sandbox_seconds()) == 130
    assert balance(account).held_ucr == 0


@pytest.mark.django_db(transaction=True)
def test_of_an_extension_and_the_end_either_comes_first_and_both_hold(account):
    sandbox = factories.make_sandbox(account, ttl_seconds=60)
    now = later(sandbox, 59)

    extended, _ = at_once(
        lambda: keeping.extend(sandbox=sandbox, ttl_seconds=600, by=None, now=now),
        lambda: keeping.close(sandbox=sandbox, by=None, now=now),
    )

    row = Sandbox.objects.get(pk=sandbox.pk)
    assert row.state == "gone"
    assert isinstance(extended, Sandbox | lifetimes.Ended)


@pytest.mark.django_db(transaction=True)
def test_what_comes_as_the_sandbox_ends_is_refused_or_failed_and_never_left(account):
    sandbox = factories.make_sandbox(account)

    submitted, _ = at_once(lambda: submit(sandbox), lambda: keeping.close(sandbox=sandbox, by=None, now=timezone.now()))

    assert isinstance(submitted, lifetimes.Ended) or Execution.objects.get(pk=submitted.pk).state == "failed"
