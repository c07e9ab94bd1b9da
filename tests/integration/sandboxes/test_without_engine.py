"""What waits when the engine goes away: it keeps its place, is told why, and is not kept for ever."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from billing import ledger
from sandboxes import engine, setbacks, tasks
from sandboxes.models import Execution
from tests import factories

pytestmark = pytest.mark.django_db

WHY = "bubblewrap: user namespaces are off"


@pytest.fixture
def alice():
    return factories.make_user()


@pytest.fixture
def account(alice):
    return factories.make_account(alice)


@pytest.fixture
def waiting(runtime, account):
    """An execution that was taken just before the engine went away."""
    execution = factories.make_execution(account)
    runtime.reasons = [WHY]
    engine.forget()
    return execution


def test_it_waits_and_loses_no_attempt(waiting):
    tasks.run_execution()
    tasks.sweep_executions()

    waiting.refresh_from_db()
    assert (waiting.state, waiting.attempt) == ("queued", 0)


def test_the_api_says_why_and_how_long(waiting, account):
    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {factories.make_key(account)[1]}")

    one = api.get(f"/api/v1/executions/{waiting.pk}").json()
    [row] = api.get("/api/v1/executions").json()["results"]

    assert one["reason"] == row["reason"]
    assert WHY in one["reason"]
    assert "for 24 hours at most" in one["reason"]
    assert one["error"] is None


def test_its_page_says_why_and_how_long(waiting, account, client, alice):
    client.force_login(alice)

    page = client.get(reverse("sandboxes:execution", args=[account, waiting.pk])).content.decode()

    assert WHY in page
    assert "for 24 hours at most" in page


def test_once_the_engine_is_back_it_runs(waiting, runtime):
    runtime.reasons = []
    engine.forget()

    tasks.run_execution()

    waiting.refresh_from_db()
    assert (waiting.state, waiting.attempt) == ("succeeded", 1)


def test_after_the_stated_time_it_fails_says_why_and_costs_nothing(waiting, account):
    later = waiting.created_at + setbacks.WAITS_AT_MOST + timedelta(minutes=1)

    assert setbacks.drop_stale(now=later) == 1

    waiting.refresh_from_db()
    assert waiting.state == "failed"
    assert waiting.error.startswith("It waited 24 hours for a sandbox and was given up. No sandbox can run code")
    assert WHY in waiting.error
    assert ledger.balance(account_id=account.pk, now=timezone.now()).held_ucr == 0


def test_what_runs_or_has_run_has_no_reason_to_wait(runtime, account):
    execution = factories.make_execution(account)
    tasks.run_execution()
    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {factories.make_key(account)[1]}")

    assert api.get(f"/api/v1/executions/{execution.pk}").json()["reason"] is None


def test_one_whose_turn_has_not_come_says_so(runtime, account):
    factories.make_execution(account)
    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {factories.make_key(account)[1]}")

    assert api.get("/api/v1/executions").json()["results"][0]["reason"] == "It waits for its turn in the pool."


def test_nothing_is_queued_while_there_is_no_engine(waiting, account, client, alice):
    client.force_login(alice)
    pool = waiting.pool_id

    page = client.post(
        reverse("sandboxes:execution-new", args=[account]),
        {"code": "print(1)", "pool": pool, "timeout_seconds": 60, "input": "", "args": "", "env": ""},
    )

    assert page.status_code == 503
    assert WHY in page.content.decode()
    assert Execution.objects.count() == 1
