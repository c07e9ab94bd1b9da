"""Promises of the nodes API."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from scaling.models import Node
from tests.factories import make_account, make_key, make_node, make_staff, make_user

pytestmark = pytest.mark.django_db
NOWHERE = "01890000-0000-7000-8000-000000000000"


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(make_staff())
    return client


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def key(*scopes: str, **changes: Any) -> dict[str, str]:
    return bearer(make_key(make_account(), scopes=scopes, **changes)[1])


def post(client: Client, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
    return client.post(f"/api/v1/{path}", body or {}, content_type="application/json", headers=headers)


def registered(staff: Client, name: str = "far") -> dict[str, Any]:
    return post(staff, "nodes", {"name": name, "role": "worker", "region": "eu"}).json()


def test_staff_lists_nodes_newest_first_with_the_contracts_fields(staff: Client) -> None:
    make_node("old", now=timezone.now() - timedelta(hours=1))
    make_node("new", cpu=0.5)

    answer = staff.get("/api/v1/nodes").json()

    assert [node["name"] for node in answer["results"]] == ["new", "old"]
    promised = "id name role region status cpu memory disk in_flight latency_ms error_rate last_seen_at weight"
    assert set(promised.split()) <= set(answer["results"][0])
    assert "token_digest" not in answer["results"][0]


def test_the_list_takes_three_queries_however_long(staff: Client, django_assert_max_num_queries: Any) -> None:
    for _ in range(30):
        make_node()

    with django_assert_max_num_queries(6):
        assert len(staff.get("/api/v1/nodes").json()["results"]) == 30


@pytest.mark.parametrize(
    ("query", "names"),
    [("status=degraded", ["b"]), ("role=worker", ["a"]), ("region=eu", ["b"]), ("draining=true", ["a"])],
)
def test_filters(staff: Client, query: str, names: list[str]) -> None:
    make_node("a", role="worker", draining=True)
    make_node("b", status="degraded", region="eu")

    assert [node["name"] for node in staff.get(f"/api/v1/nodes?{query}").json()["results"]] == names


@pytest.mark.parametrize("query", ["status=fine", "draining=maybe"])
def test_a_filter_that_cannot_be_is_400(staff: Client, query: str) -> None:
    assert staff.get(f"/api/v1/nodes?{query}").json()["code"] == "validation_error"


def test_who_may_see_and_do_what(client: Client) -> None:
    node = make_node()
    path = f"/api/v1/nodes/{node.pk}"

    def codes(headers: dict[str, str]) -> list[int]:
        drain = client.post(f"{path}/drain", headers=headers)
        return [client.get(path, headers=headers).status_code, drain.status_code]

    assert codes({}) == [401, 401]
    assert codes(key("billing:write")) == [403, 403]
    assert codes(key("scaling:read")) == [200, 403]
    assert codes(key("scaling:write")) == [200, 200]
    client.force_login(make_user("Charlie"))
    assert client.get(path).json()["code"] == "missing_scope"


def test_draining_and_resuming(staff: Client) -> None:
    node = make_node()

    drained = post(staff, f"nodes/{node.pk}/drain").json()
    resumed = post(staff, f"nodes/{node.pk}/resume").json()

    assert (drained["draining"], resumed["draining"]) == (True, False)


def test_registering_is_staffs_and_shows_the_token_once(client: Client) -> None:
    refused = post(client, "nodes", {"name": "far"}, key("scaling:write"))
    client.force_login(make_staff())
    made = post(client, "nodes", {"name": "far", "weight": 3})

    assert refused.json()["code"] == "staff_required"
    assert (made.status_code, made.json()["status"], made.json()["weight"]) == (201, "unknown", 3)
    assert made.json()["token"].startswith("ntn_")
    assert "token" not in client.get(f"/api/v1/nodes/{made.json()['id']}").json()


def test_a_name_taken_is_a_conflict_and_a_bad_one_400(staff: Client) -> None:
    registered(staff)

    assert post(staff, "nodes", {"name": "far"}).status_code == 409
    assert post(staff, "nodes", {"name": "no spaces"}).json()["errors"].keys() == {"name"}
    assert post(staff, "nodes", {"name": "x", "colour": "red"}).json()["errors"].keys() == {"colour"}


def test_a_node_reports_with_its_own_token(staff: Client, client: Client) -> None:
    node = registered(staff)
    staff.logout()

    answer = post(client, f"nodes/{node['id']}/reports", {"cpu": 0.95, "memory": 0.2}, bearer(node["token"]))

    assert answer.status_code == 200
    assert answer.json() == {"status": "unhealthy", "draining": False, "weight": 1}
    assert Node.objects.get().last_seen_at is not None


def test_a_node_token_is_good_for_nothing_else(staff: Client, client: Client) -> None:
    node, other = registered(staff), registered(staff, "other")
    staff.logout()
    mine = bearer(node["token"])

    codes = [
        post(client, f"nodes/{other['id']}/reports", {"cpu": 0.1}, mine).status_code,
        post(client, f"nodes/{node['id']}/drain", {}, mine).status_code,
        client.get("/api/v1/nodes", headers=mine).status_code,
        post(client, f"nodes/{node['id']}/reports", {"cpu": 0.1}, bearer("ntn_unknown")).status_code,
        post(client, f"nodes/{node['id']}/reports", {"cpu": 0.1}).status_code,
    ]

    assert codes == [404, 401, 401, 401, 401]


@pytest.mark.parametrize(
    "body",
    [
        {"cpu": 1.2},
        {"memory": -0.1},
        {"latency_ms": -1},
        {"in_flight": 1.5},
        {"observed_at": "yesterday"},
        {"observed_at": (timezone.now() + timedelta(hours=1)).isoformat()},
        {"temperature": 40},
        {"metadata": {"note": "a\0b"}},
        {"metadata": {"note": "x" * 20_000}},
        {"metadata": {"processes": {"web": 1}}},
        {"metadata": {"told": {"sandboxes": {}}}},
    ],
)
def test_an_impossible_report_is_400(staff: Client, body: dict[str, Any]) -> None:
    node = registered(staff)

    assert post(staff, f"nodes/{node['id']}/reports", body).json()["code"] == "validation_error"


def test_the_health_history_has_reports_and_changes_with_reasons(staff: Client) -> None:
    node = registered(staff)
    post(staff, f"nodes/{node['id']}/reports", {"cpu": 0.95})

    history = staff.get(f"/api/v1/nodes/{node['id']}/health-history").json()

    assert [report["cpu"] for report in history["reports"]] == [0.95]
    (change,) = history["changes"]
    assert (change["before"], change["after"]) == ("unknown", "unhealthy")
    assert change["reason"] == "CPU is at 95%; the limit is 90%."
    for limit in ("0", "1001", "ten", "9" * 5000):
        assert staff.get(f"/api/v1/nodes/{node['id']}/health-history?limit={limit}").status_code == 400


def test_removing_wants_a_drained_or_dead_node(staff: Client) -> None:
    node = make_node()

    first = staff.delete(f"/api/v1/nodes/{node.pk}")
    post(staff, f"nodes/{node.pk}/drain")
    second = staff.delete(f"/api/v1/nodes/{node.pk}")

    assert (first.status_code, second.status_code) == (409, 204)


@pytest.mark.parametrize("path", [f"nodes/{NOWHERE}", f"nodes/{NOWHERE}/health-history", "nodes/not-an-id"])
def test_what_is_not_there_is_404(staff: Client, path: str) -> None:
    assert staff.get(f"/api/v1/{path}").status_code == 404
