"""What a worker does for its machine: the daemon's sizes, and what the heart tells of the sandboxes."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
from django.utils import timezone

from sandboxes import claims, engine, executor, keeper, leases, pools, vitals
from sandboxes.models import Pool
from sandboxes.runtimes import RuntimeLost, Size
from scaling.models import Node
from tests import factories, scripted

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_ended_yet():
    vitals._ended.clear()
    vitals._last_told = (0.0, {})


def python() -> Pool:
    return Pool.objects.get(account=None, name="python")


# --- sizes


def test_the_daemon_is_told_what_the_built_in_pools_want(runtime):
    told = keeper.keep()

    assert sorted(told) == ["node", "python"]
    assert runtime.sizes["python"] == Size(ready=2, running=10, idle_timeout_seconds=300, max_age_seconds=3600)


def test_it_is_told_only_what_changed(runtime):
    keeper.keep()
    again = keeper.keep()
    pools.resize(pool=python(), to=4)

    assert again == []
    assert keeper.keep() == ["python"]
    assert runtime.sizes["python"].running == 4


def test_a_restarted_daemon_is_told_again(runtime):
    keeper.keep()
    runtime.sizes.clear()

    assert sorted(keeper.keep()) == ["node", "python"]


def test_own_pools_use_the_same_sandboxes_up_to_the_setting(settings):
    settings.MAX_SANDBOXES = 14
    pools.resize(pool=python(), to=2)
    factories.make_pool(factories.make_account(), max_size=3, min_size=3)
    some = keeper.wanted()["python", ""]
    factories.make_pool(factories.make_account(factories.make_user("Charlie")), max_size=50)

    assert (some.ready, some.running) == (2, 5)
    assert keeper.wanted()["python", ""].running == 14


def test_the_times_of_a_built_in_pool_reach_the_daemon(runtime):
    changes = {"min_size": 0, "idle_timeout_seconds": 60, "max_age_seconds": 120}
    pools.change_pool(pool=python(), changes=changes, by=factories.make_staff())

    keeper.keep()

    assert runtime.sizes["python"] == Size(ready=0, running=10, idle_timeout_seconds=60, max_age_seconds=120)


def test_while_the_daemon_is_away_nothing_is_told(runtime):
    runtime.reasons = ["away"]

    assert keeper.keep() == []
    assert runtime.sizes == {}


def test_a_daemon_that_refuses_is_logged_and_asked_again(runtime, monkeypatch, caplog):
    def refuse(language: str, size: Size, *, template: str = "") -> None:
        raise engine.RuntimeUnavailable(["not here"])

    monkeypatch.setattr(runtime, "resize", refuse)

    assert sorted(keeper.keep()) == sorted(keeper.keep()) == ["node", "python"]
    assert "not here" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_its_thread_keeps_them_until_it_is_stopped(runtime):
    keeper.watch.start()
    keeper.watch.start()
    thread = keeper.watch._thread
    assert thread is not None

    keeper.watch.stop()

    assert not thread.is_alive()
    assert set(runtime.sizes) == {"python", "node"}


# --- vitals


def run_one(runtime, **outcome):
    factories.make_execution()
    runtime.script = lambda request: scripted.outcome(**outcome)
    executor.run(execution=claims.claim(now=timezone.now()), clock=timezone.now)


def test_what_runs_here_is_in_flight(runtime):
    seen = []
    runtime.during = lambda request, on_output: seen.append(vitals.in_flight())

    run_one(runtime)

    assert (seen, vitals.in_flight()) == ([1], 0)


def test_a_program_that_fails_is_no_error_of_the_machine(runtime):
    run_one(runtime, exit_code=1)

    assert vitals.error_rate() == 0.0


def test_a_lost_sandbox_counts_among_at_least_twenty_attempts(runtime):
    def lose(request):
        raise RuntimeLost("gone")

    factories.make_execution()
    runtime.script = lose
    executor.run(execution=claims.claim(now=timezone.now()), clock=timezone.now)

    assert vitals.error_rate() == 1 / 20
    for _ in range(39):
        vitals.attempt_ended(lost=False)
    assert vitals.error_rate() == 1 / 40


def test_attempts_of_long_ago_are_forgotten(monkeypatch):
    vitals.attempt_ended(lost=True)
    monkeypatch.setattr(vitals, "WINDOW_SECONDS", -1.0)

    assert vitals.error_rate() == 0.0


def test_the_daemons_process_is_known_once_it_was_asked(runtime):
    engine.forget()
    before = vitals.processes()
    engine.describe()

    assert before == {}
    assert vitals.processes() == {"sandboxes": os.getpid()}


def test_a_daemon_that_is_away_has_no_process(runtime):
    runtime.reasons = ["away"]
    engine.describe_anew()

    assert vitals.processes() == {}
    assert leases.held_here() == 0


def test_what_isolates_is_told_once_it_is_known_and_again_when_it_changes(runtime, monkeypatch):
    engine.forget()
    unknown = vitals.told()
    engine.describe()
    first, same = vitals.told(), vitals.told()
    runtime.reasons = ["gvisor: it was taken away"]
    engine.describe_anew()
    changed = vitals.told()
    monkeypatch.setattr(vitals, "TELL_SECONDS", -1.0)

    assert (unknown, same) == ({}, {})
    assert first["sandboxes"]["engine"] == "scripted"
    assert first["sandboxes"]["promises"] == ["nothing leaves"]
    assert "pools" not in first["sandboxes"]
    assert (changed["sandboxes"]["engine"], changed["sandboxes"]["reasons"]) == (None, ["gvisor: it was taken away"])
    assert vitals.told() == changed


def test_an_engine_that_was_not_told_of_for_minutes_is_silent():
    now = timezone.now()
    said = {"engine": "gvisor", "since": now.isoformat(), "why": "it passed"}
    for name, seconds in (("fresh", 5), ("old", 500)):
        seen = (now - timedelta(seconds=seconds)).isoformat()
        factories.make_node(name, metadata={"told": {"sandboxes": {**said, "seen": seen}}})
    factories.make_node("without")

    found = vitals.engines(Node.objects.all(), now=now)

    assert [(each.name, each.is_silent, each.said["engine"]) for each in found] == [
        ("fresh", False, "gvisor"),
        ("old", True, "gvisor"),
    ]


def test_before_anybody_told_this_machines_own_engine_is_shown(runtime):
    engine.forget()

    found = vitals.engines(Node.objects.all(), now=timezone.now())

    assert [each.said["engine"] for each in found] == ["scripted"]
