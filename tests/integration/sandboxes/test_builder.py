"""Builds: claimed by one worker, written down while they go, ended once, and taken up again when a worker dies."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from sandboxes import builder, engine, tasks
from sandboxes.models import Build, Template
from sandboxes.runtimes import Built, RuntimeLost, RuntimeUnavailable
from tests import factories

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("runtime")]


def claim(**later):
    return builder.claim(now=timezone.now() + timedelta(**later))


def run(build):
    wait = builder.run(build=build, clock=timezone.now)
    build.refresh_from_db()
    return wait


def failing(error):
    def script(request, on_output):
        raise error

    return script


def test_a_build_ends_ready_with_its_lock_size_and_log(runtime):
    template = factories.make_template(None, "a==1", "b==2")

    def script(request, on_output):
        on_output("stdout", 0, b"Collecting a\n")
        on_output("stderr", 0, b"\xff\0 odd\n")
        return Built("a==1 --hash=sha256:00", 4096)

    runtime.build_script = script
    build = claim()
    assert (build.attempt, build.state, build.is_claimed) == (1, "building", True)
    wait = run(build)

    template = Template.objects.get(pk=template.pk)
    assert wait is None
    assert (template.state, template.size_bytes, template.error) == ("ready", 4096, "")
    assert template.log == "Collecting a\n\ufffd\ufffd odd\n"
    assert (build.lock, build.lease_expires_at, build.claimed_by) == ("a==1 --hash=sha256:00", None, "")
    [request] = runtime.builds
    assert (request.address, request.packages, request.lock) == (template.address, ("a==1", "b==2"), "")


def test_packages_that_cannot_be_had_fail_with_the_reason(runtime):
    template = factories.make_template()
    runtime.build_script = lambda request, on_output: Built(reason="No matching distribution found for six==99")

    run(claim())

    template = Template.objects.get(pk=template.pk)
    assert (template.state, template.error) == ("failed", "No matching distribution found for six==99")
    assert claim() is None


def test_a_node_that_cannot_build_says_why(runtime):
    factories.make_template()
    runtime.build_script = failing(RuntimeUnavailable(["npm is not installed on this node"]))

    build = claim()
    run(build)

    assert (build.state, "npm is not installed" in build.error) == ("failed", True)


def test_a_lost_daemon_is_tried_again_after_a_moment_and_failed_honestly_after_three(runtime):
    template = factories.make_template()
    runtime.build_script = failing(RuntimeLost("the daemon went away"))

    waits = [run(claim())]
    assert claim() is None
    waits += [run(claim(minutes=minute)) for minute in (1, 2)]

    build = Build.objects.get()
    assert waits[0] > 0
    assert waits[2] is None
    assert (build.state, build.attempt) == ("failed", 3)
    assert "the daemon went away" in build.error
    assert Template.objects.get(pk=template.pk).state == "failed"


def test_a_build_whose_worker_died_is_taken_up_by_another(runtime):
    factories.make_template()
    dead = claim()
    assert claim() is None

    again = claim(minutes=1)
    run(again)
    late = builder.finish(build=dead, built=Built(reason="too late"), now=timezone.now())

    assert (again.pk, again.attempt, again.state) == (dead.pk, 2, "ready")
    assert late is False
    assert Build.objects.get().error == ""


def test_after_three_dead_workers_it_fails(runtime):
    template = factories.make_template()
    for minute in range(3):
        assert claim(minutes=minute) is not None

    assert claim(minutes=4) is None
    assert Template.objects.get(pk=template.pk).state == "failed"
    assert Build.objects.get().error == "The workers that built it stopped answering."


def test_one_that_was_deleted_meanwhile_ends_without_effect(runtime):
    factories.make_template()

    def script(request, on_output):
        on_output("stdout", 0, b"words")
        Template.objects.exclude(account=None).delete()
        Build.objects.all().delete()
        return Built("lock", 1)

    runtime.build_script = script
    builder.run(build=claim(), clock=timezone.now)

    assert not Build.objects.exists()


def test_the_oldest_goes_first_and_not_too_many_at_once(monkeypatch):
    account = factories.make_account()
    made = [factories.make_template(account, f"a=={n}").build for n in range(3)]
    monkeypatch.setattr(builder, "AT_ONCE", 2)

    assert [claim().pk, claim().pk, claim()] == [made[0].pk, made[1].pk, None]


def test_a_log_without_end_is_cut(runtime, monkeypatch):
    monkeypatch.setattr(builder, "LOG_CHARACTERS", 10)
    factories.make_template()

    def script(request, on_output):
        on_output("stdout", 0, b"x" * 30)
        return Built("lock", 1)

    runtime.build_script = script
    build = claim()
    run(build)

    assert build.log == "x" * 10 + builder.LEFT_OUT


@pytest.mark.django_db(transaction=True)
def test_what_it_says_can_be_read_while_it_builds_and_its_lease_is_renewed(runtime, monkeypatch):
    monkeypatch.setattr(builder, "FLUSH_SECONDS", 0.01)
    monkeypatch.setattr(builder, "RENEW_SECONDS", 0.01)
    factories.make_template()
    seen = {}

    def script(request, on_output):
        before = Build.objects.get().lease_expires_at
        on_output("stdout", 0, b"Collecting\n")
        # The thread that writes it down is waited for, not a time.
        while not (seen.get("log") and seen["lease"] > before):
            row = Build.objects.get()
            seen.update(log=row.log, lease=row.lease_expires_at)
        return Built("lock", 1)

    runtime.build_script = script
    run(claim())

    assert seen["log"] == "Collecting\n"


@pytest.mark.django_db(transaction=True)
def test_a_doorbell_builds_what_waits_and_the_sweep_rings_for_what_nobody_heard(runtime, monkeypatch):
    template = factories.make_template()
    rung = []
    monkeypatch.setattr(tasks.build_template, "delay", lambda *args, **kwargs: rung.append(args), raising=False)

    tasks.sweep_builds()
    tasks.build_template()
    tasks.build_template()
    tasks.sweep_builds()

    assert len(rung) == 1
    assert len(runtime.builds) == 1
    assert Template.objects.get(pk=template.pk).state == "ready"


@pytest.mark.django_db(transaction=True)
def test_while_the_daemon_is_away_nothing_is_claimed(runtime):
    factories.make_template()
    engine.forget()
    runtime.reasons = ["the daemon cannot be reached"]

    tasks.build_template()

    assert Build.objects.get().attempt == 0
