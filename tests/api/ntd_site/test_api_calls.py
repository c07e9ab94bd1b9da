"""What calls cost: served ones of keys, by account, key and minute, once."""

from __future__ import annotations

import time
from datetime import timedelta
from decimal import Decimal

import pytest
import redis
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient
from uuid_utils.compat import uuid7

from billing import metering
from billing.api import urls as billing_urls
from billing.models import Account, ApiKey, UsageRecord
from ntd_site import api_calls
from tests import factories, ledger_cast

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_counted_yet():
    yield api_calls._client().delete(api_calls.CALLS)
    api_calls._client().delete(api_calls.CALLS)
    ledger_cast.assert_books_are_right()


def client_of(secret: str) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    return client


def counted() -> dict[str, int]:
    """By "account:key"; nobody waits for the answers of what counts, so what comes is waited for here."""
    ends = time.monotonic() + 0.05
    while True:
        found = api_calls._client().hgetall(api_calls.CALLS)
        sums: dict[str, int] = {}
        for field, count in found.items():
            who = field.partition(":")[2]
            sums[who] = sums.get(who, 0) + int(count)
        if time.monotonic() > ends:
            return sums
        time.sleep(0.005)


def put(key: ApiKey, count: int, *, minutes_ago: int = 1) -> str:
    field = f"{int(time.time() // 60) - minutes_ago}:{key.account_id}:{key.pk}"
    api_calls._client().hset(api_calls.CALLS, field, count)
    return field


def post(client: APIClient, path: str, body: dict[str, object]):
    return client.post(f"/api/v1/{path}", body, format="json", headers={"Idempotency-Key": str(uuid7())})


def left() -> list[str]:
    return list(api_calls._client().hkeys(api_calls.CALLS))


def test_served_calls_of_a_key_are_counted_and_refused_ones_are_not():
    account = factories.make_account()
    key, secret = factories.make_key(account)
    reader, reading = factories.make_key(account, scopes=("billing:read",))
    client, other = client_of(secret), client_of(reading)

    answers = [client.get(f"/api/v1/{path}") for path in ("executions", "sandboxes/", f"executions/{uuid7()}")]
    answers += [client.post("/api/v1/executions", {}, format="json")]
    refused = [
        other.get("/api/v1/executions"),
        other.get("/api/v1/health-of-nodes"),
        client_of("ntd_x").get("/api/v1/executions"),
    ]
    key.rate_limit_per_minute = 1
    key.save()
    refused += [client.get("/api/v1/executions")]

    assert [answer.status_code for answer in answers] == [200, 200, 404, 400]
    assert [answer.status_code for answer in refused] == [403, 404, 401, 429]
    # An address that does not exist is asked of nobody: no key is looked up for it.
    assert counted() == {f"{account.pk}:{key.pk}": 4}


def test_reading_bills_and_paying_costs_nothing_and_work_does():
    account = ledger_cast.make_account(100)
    key, secret = factories.make_key(account)
    client = client_of(secret)
    event = {"id": "1", "source": "me", "meter": "mcp_call", "quantity": "1"}
    hold = {"amount": "1", "expires_in_seconds": 60, "purpose": "work"}

    free = [client.get(f"/api/v1/{path}") for path in ("account/balance/", "invoices", "usage", "members", "holds")]
    free += [client.head("/api/v1/payments"), client.get("/api/v1/webhook-endpoints"), client.get("/api/v1/api-keys")]
    free += [post(client, "topups", {"credits": "10", "payment_method": "sim_ok"}), post(client, "budgets", {})]
    free += [post(client, "prices/estimate", {"items": [{"meter": "api_call", "quantity": "5"}]})]
    assert counted() == {}
    paid = [post(client, "usage/events", event), post(client, "holds", hold)]
    paid += [post(client, f"holds/{paid[-1].json()['id']}/release", {})]

    assert [answer.status_code for answer in free] == [200] * 8 + [201, 400, 200]
    assert [answer.status_code for answer in paid] == [201, 201, 200]
    assert counted() == {f"{account.pk}:{key.pk}": 3}


def test_what_was_just_bought_goes_back_whole_after_looking_at_it():
    account = ledger_cast.make_account(0)
    _, secret = factories.make_key(account)
    client = client_of(secret)

    bought = post(client, "topups", {"credits": "10", "payment_method": "sim_ok"}).json()
    for _ in range(3):
        client.get(f"/api/v1/payments/{bought['id']}")
    api_calls.sweep(now=timezone.now() + timedelta(minutes=2))

    assert post(client, f"payments/{bought['id']}/refunds", {}).status_code == 201
    assert UsageRecord.objects.count() == 0


def test_the_acts_that_cost_are_acts_of_their_views():
    """What `charged_actions` names exists, and every address of billing's says whether it costs."""
    charged = set()
    for each in billing_urls.urlpatterns:
        view, acts = each.callback.cls, set((getattr(each.callback, "actions", None) or {}).values())
        if acts:
            assert view.calls_are_free, each.pattern
            charged |= {(view.__name__, act) for act in acts & getattr(view, "charged_actions", frozenset())}

    assert charged == {
        ("UsageViewSet", "events"), ("HoldViewSet", "create"), ("HoldViewSet", "capture"), ("HoldViewSet", "release"),
    }  # fmt: skip


def test_the_document_says_which_calls_cost_nothing(client: Client):
    paths = client.get("/api/v1/schema/", headers={"Accept": "application/json"}).json()["paths"]
    free = "Calling it costs no credits."

    assert free in paths["/api/v1/payments"]["get"]["description"]
    assert free in paths["/api/v1/members"]["post"]["description"]
    for path, method in [
        ("usage/events", "post"),
        ("holds", "post"),
        ("executions", "get"),
        ("gateways/{name}/webhook", "post"),
    ]:
        assert free not in paths[f"/api/v1/{path}"][method].get("description", "")


def test_a_failure_of_ours_costs_nothing(monkeypatch):
    key, secret = factories.make_key(factories.make_account())
    monkeypatch.setattr("sandboxes.api.viewsets.ExecutionViewSet.list", lambda *_, **__: 1 / 0)
    client = client_of(secret)
    client.raise_request_exception = False

    answer = client.get("/api/v1/executions")

    assert (answer.status_code, counted()) == (500, {})


def test_neither_people_nor_agents_pay_for_calls(client: Client):
    account = factories.make_account()
    federation = factories.make_federation(account)
    agent, token = factories.make_agent_with_token(federation)
    client.force_login(account.memberships.get().user)

    answers = [
        client.get("/api/v1/executions"),
        client_of(token).post(f"/api/v1/agents/{agent.pk}/heartbeat", {"status": "idle"}, format="json"),
        client.get(f"/o/{account.slug}/"),
    ]

    assert [answer.status_code < 300 for answer in answers] == [True, True, True]
    assert counted() == {}


@pytest.mark.parametrize("status", ["suspended", "closed"])
def test_whoever_may_not_spend_reads_the_bills_for_nothing(status):
    key, secret = factories.make_key(account := factories.make_account())
    Account.objects.filter(pk=account.pk).update(status=status)

    client_of(secret).get("/api/v1/executions")
    put(key, 5)
    api_calls.sweep(now=timezone.now())

    assert (counted(), UsageRecord.objects.count()) == ({}, 0)


def test_without_credits_calls_are_served_and_cost_what_is_left():
    account = ledger_cast.make_account(0)
    ledger_cast.give(account, 1)
    key, secret = factories.make_key(account)
    put(key, 100)
    api_calls.sweep(now=timezone.now())

    assert UsageRecord.objects.get().cost_ucr == ledger_cast.UCR  # of two
    assert client_of(secret).get("/api/v1/account/balance").json()["available"] == "0.000000"
    assert client_of(secret).get("/api/v1/executions").status_code == 200


def test_each_minute_of_each_key_is_one_event_when_it_is_over():
    key, other = (factories.make_key(account := ledger_cast.make_account(100))[0] for _ in range(2))
    fields = [put(key, 7), put(key, 3, minutes_ago=2), put(other, 5)]
    running = put(other, 2, minutes_ago=-1)

    assert api_calls.sweep(now=timezone.now()) == 3
    assert api_calls.sweep(now=timezone.now()) == 0

    found = UsageRecord.objects.order_by("quantity").values_list("meter", "quantity", "api_key", "account")
    assert list(found) == [
        ("api_call", Decimal(3), key.pk, key.account_id),
        ("api_call", Decimal(5), other.pk, account.pk),
        ("api_call", Decimal(7), key.pk, key.account_id),
    ]
    assert (left(), sum(UsageRecord.objects.values_list("cost_ucr", flat=True))) == ([running], 15 * 20_000)
    minute = int(fields[0].partition(":")[0])
    assert UsageRecord.objects.get(quantity=7).occurred_at.timestamp() == minute * 60


def test_a_crash_before_the_minute_is_forgotten_charges_it_once(monkeypatch):
    key, _ = factories.make_key(factories.make_account())
    field = put(key, 7)
    with monkeypatch.context() as crash:
        crash.setattr("redis.Redis.hdel", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            api_calls.sweep(now=timezone.now())
    assert left() == [field]

    api_calls.sweep(now=timezone.now() + timedelta(seconds=15))

    assert (left(), UsageRecord.objects.get().quantity) == ([], 7)


def test_what_cannot_be_charged_now_waits_and_stops_no_other(monkeypatch):
    key, other = (factories.make_key(factories.make_account())[0] for _ in range(2))
    waits, _ = put(key, 7), put(other, 5)
    settle = metering.settle

    def failing(**event):
        return 1 / 0 if event["account_id"] == key.account_id else settle(**event)

    monkeypatch.setattr(metering, "settle", failing)
    assert api_calls.sweep(now=timezone.now()) == 1

    assert (left(), UsageRecord.objects.get().account_id) == ([waits], other.account_id)


def test_an_older_count_of_what_was_charged_and_what_nobody_pays_for_are_dropped():
    key, _ = factories.make_key(factories.make_account())
    put(key, 7)
    api_calls.sweep(now=timezone.now())
    put(key, 6)
    put(ApiKey(account_id=uuid7()), 9)

    assert api_calls.sweep(now=timezone.now()) == 0
    assert (left(), UsageRecord.objects.get().quantity) == ([], 7)


def test_a_connection_that_broke_is_made_anew_and_redis_away_stops_no_call(monkeypatch):
    key, secret = factories.make_key(account := factories.make_account())
    client = client_of(secret)
    client.get("/api/v1/executions")
    assert counted() == {f"{account.pk}:{key.pk}": 1}
    api_calls._mine.connection._sock.close()

    lost, again = client.get("/api/v1/executions"), client.get("/api/v1/executions")
    assert (lost.status_code, again.status_code, counted()) == (200, 200, {f"{account.pk}:{key.pk}": 2})

    def away(*_, **__):
        raise redis.ConnectionError("away")

    monkeypatch.setattr(api_calls, "_tell", away)
    assert client.get("/api/v1/executions").status_code == 200
