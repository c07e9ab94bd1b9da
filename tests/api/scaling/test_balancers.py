"""Promises of the balancers API."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from tests.factories import make_account, make_balancer, make_key, make_node, make_staff

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(make_staff())
    return client


def post(client: Client, path: str, body: Any = None, **options: Any) -> Any:
    return client.post(f"/api/v1/balancers{path}", body or {}, content_type="application/json", **options)


def test_a_balancer_is_made_seen_changed_and_removed(staff: Client) -> None:
    made = post(staff, "", {"name": "edge", "strategy": "least_connections"})
    path = f"/api/v1/balancers/{made.json()['id']}"
    changed = staff.patch(path, {"strategy": "ip_hash"}, content_type="application/json")
    listed = staff.get("/api/v1/balancers").json()["results"]

    assert made.status_code == 201
    assert (changed.json()["name"], changed.json()["strategy"]) == ("edge", "ip_hash")
    assert listed == [changed.json()]
    assert (staff.delete(path).status_code, staff.get(path).status_code) == (204, 404)


@pytest.mark.parametrize(
    ("body", "field"), [({"name": "x", "strategy": "luck"}, "strategy"), ({"strategy": "random"}, "name")]
)
def test_a_wrong_balancer_is_400(staff: Client, body: dict[str, Any], field: str) -> None:
    assert post(staff, "", body).json()["errors"].keys() == {field}


def test_a_pick_is_in_flight_until_released(staff: Client) -> None:
    node = make_node("a")
    path = f"/{make_balancer().pk}"

    first = post(staff, f"{path}/pick").json()
    second = post(staff, f"{path}/pick").json()
    released = post(staff, f"{path}/release", {"pick": first["pick"], "latency_ms": 12, "ok": True})

    assert (first["target"], first["target_name"], first["in_flight"]) == (str(node.pk), "a", 1)
    assert second["in_flight"] == 2
    assert (released.status_code, released.json()["in_flight"]) == (200, 1)


def test_releasing_twice_is_a_conflict_and_a_foreign_pick_404(staff: Client) -> None:
    make_node()
    path, other = f"/{make_balancer().pk}", f"/{make_balancer().pk}"
    picked = post(staff, f"{path}/pick").json()["pick"]
    foreign = post(staff, f"{other}/release", {"pick": picked})
    post(staff, f"{path}/release", {"pick": picked})

    again = post(staff, f"{path}/release", {"pick": picked})

    assert (again.status_code, again.json()["code"], again.json()["state"]) == (409, "conflict", "released")
    assert foreign.status_code == 404


def test_nothing_healthy_is_503_with_a_time_to_retry(staff: Client) -> None:
    make_node(status="unhealthy")

    answer = post(staff, f"/{make_balancer().pk}/pick")

    assert (answer.status_code, answer.json()["code"], answer["Retry-After"]) == (503, "scaling_error", "1")


def test_ip_hash_without_a_key_is_400_and_with_one_sticks(staff: Client) -> None:
    for name in "abc":
        make_node(name)
    path = f"/{make_balancer('ip_hash').pk}/pick"

    assert post(staff, path).json()["code"] == "validation_error"
    assert len({post(staff, path, {"key": "10.0.0.9"}).json()["target"] for _ in range(4)}) == 1


def test_keys_need_the_scope(client: Client) -> None:
    _, secret = make_key(make_account(), scopes=("scaling:read",))
    headers = {"Authorization": f"Bearer {secret}"}

    assert client.get("/api/v1/balancers", headers=headers).status_code == 200
    refused = post(client, "", {"name": "x", "strategy": "random"}, headers=headers)
    assert refused.json()["code"] == "missing_scope"
