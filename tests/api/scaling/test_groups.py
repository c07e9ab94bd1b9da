"""Promises of the scaling-groups API."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from scaling.models import Decision, Group
from tests.factories import make_account, make_group, make_key, make_staff
from tests.fakes import FakeTarget

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("fake_target")]


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(make_staff())
    return client


def post(client: Client, path: str, body: Any = None, **options: Any) -> Any:
    return client.post(f"/api/v1/{path}", body or {}, content_type="application/json", **options)


def patch(client: Client, group: Group, body: Any, **options: Any) -> Any:
    return client.patch(f"/api/v1/scaling-groups/{group.pk}", body, content_type="application/json", **options)


def test_a_group_is_made_with_the_specifications_defaults(staff: Client) -> None:
    made = post(staff, "scaling-groups", {"name": "pool", "target": {"type": "fake", "id": "one"}})

    assert made.status_code == 201
    assert made.json()["target"] == {"type": "fake", "id": "one", "name": "Fake one"}
    policy = made.json()["policy"]
    assert (policy["type"], policy["min"], policy["max"]) == ("target_tracking", 2, 20)
    assert (policy["scale_up_cpu_threshold"], policy["scale_down_memory_threshold"]) == (0.75, 0.25)
    assert (policy["cooldown_seconds"], policy["violations"], policy["down_window_seconds"]) == (300, 3, 300)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "x", "target": {"type": "kubernetes"}}, "target"),
        ({"name": "x", "target": {"type": "fake", "id": "three"}}, "target"),
        ({"name": "x", "target": {"type": "fake", "id": "one"}, "policy": {"min": 5, "max": 4}}, "policy.max"),
        ({"name": "x", "target": {"type": "fake", "id": "one"}, "policy": {"min": -1}}, "policy.min"),
        ({"name": "x", "target": {"type": "fake", "id": "one"}, "policy": {"speed": 1}}, "policy"),
        ({"name": "x"}, "target"),
    ],
)
def test_a_wrong_group_is_400_and_says_where(staff: Client, body: dict[str, Any], field: str) -> None:
    answer = post(staff, "scaling-groups", body)

    assert answer.json()["code"] == "validation_error"
    assert any(name.startswith(field) for name in answer.json()["errors"])


def test_one_group_per_target(staff: Client) -> None:
    make_group("one")

    assert post(staff, "scaling-groups", {"name": "x", "target": {"type": "fake", "id": "one"}}).status_code == 409


def test_a_patch_changes_only_what_it_names_and_guards_the_version(staff: Client) -> None:
    group = make_group(max_size=9)

    changed = patch(staff, group, {"policy": {"min": 3}}, headers={"If-Match": '"1"'}).json()
    stale = patch(staff, group, {"policy": {"min": 4}}, headers={"If-Match": "1"})
    wrong = patch(staff, group, {"policy": {"min": 10}})

    assert (changed["policy"]["min"], changed["policy"]["max"], changed["version"]) == (3, 9, 2)
    assert (stale.status_code, stale.json()["code"]) == (409, "conflict")
    assert wrong.json()["errors"].keys() == {"policy.max"}


def test_pausing_holds_and_resuming_acts(staff: Client, fake_target: FakeTarget) -> None:
    fake_target.metrics["cpu"] = 1.0
    group = make_group()
    path = f"scaling-groups/{group.pk}"

    paused = post(staff, f"{path}/pause").json()["paused"]
    held = post(staff, f"{path}/evaluate").json()
    resumed = post(staff, f"{path}/resume").json()["paused"]
    acted = post(staff, f"{path}/evaluate").json()

    assert (paused, resumed) == (True, False)
    assert (held["action"], held["limited_by"]) == ("held", "paused")
    assert (acted["action"], acted["current"], acted["recommended"], acted["applied"]) == ("up", 2, 3, 3)
    assert fake_target.sizes["one"] == 3


def test_a_dry_run_with_own_metrics_says_what_would_happen(staff: Client, fake_target: FakeTarget) -> None:
    group = make_group()
    metrics = {"cpu": 1.0, "memory": 0.5, "queue": 0, "observed_at": timezone.now().isoformat()}

    answer = post(staff, f"scaling-groups/{group.pk}/evaluate?dry_run=true", {"metrics": metrics})

    assert answer.status_code == 200
    decision = answer.json()
    promised = {"at", "current", "recommended", "applied", "action", "reason", "limited_by", "inputs", "by"}
    assert promised <= set(decision)
    assert (decision["action"], decision["inputs"]["cpu"]) == ("up", 1.0)
    assert (fake_target.moves, Decision.objects.count()) == ([], 0)


@pytest.mark.parametrize(
    "metrics",
    [
        {},
        {"cpu": None, "memory": None},
        {"cpu": 1.0, "memory": 1.0, "observed_at": (timezone.now() - timedelta(hours=1)).isoformat()},
    ],
)
def test_missing_and_stale_metrics_hold(staff: Client, metrics: dict[str, Any]) -> None:
    group = make_group()

    decision = post(staff, f"scaling-groups/{group.pk}/evaluate?dry_run=true", {"metrics": metrics}).json()

    assert (decision["action"], decision["limited_by"]) == ("held", "metrics")


def test_own_metrics_are_staffs_and_for_dry_runs_or_the_test_clock(client: Client, settings: Any) -> None:
    group = make_group()
    _, secret = make_key(make_account(), scopes=("scaling:write",))
    path, body = f"scaling-groups/{group.pk}/evaluate", {"metrics": {"cpu": 1.0}}
    by_key = post(client, f"{path}?dry_run=true", body, headers={"Authorization": f"Bearer {secret}"})
    client.force_login(make_staff())
    for_real = post(client, path, body)
    settings.NTD_TEST_CLOCK = settings.DEBUG = True
    under_the_clock = post(client, path, body)

    assert by_key.json()["code"] == "staff_required"
    assert for_real.json()["code"] == "validation_error"
    assert under_the_clock.json()["applied"] == 3


def test_decisions_are_listed_newest_first_and_filtered(staff: Client, fake_target: FakeTarget) -> None:
    group = make_group()
    fake_target.metrics["cpu"] = 1.0
    post(staff, f"scaling-groups/{group.pk}/evaluate")
    fake_target.metrics["cpu"] = 0.7
    post(staff, f"scaling-groups/{group.pk}/evaluate")
    path = f"/api/v1/scaling-groups/{group.pk}/decisions"

    assert [each["action"] for each in staff.get(path).json()["results"]] == ["none", "up"]
    assert [each["action"] for each in staff.get(f"{path}?action=up").json()["results"]] == ["up"]
    assert staff.get(f"{path}?action=sideways").status_code == 400


def test_a_group_is_listed_seen_and_removed(staff: Client) -> None:
    group = make_group()
    path = f"/api/v1/scaling-groups/{group.pk}"

    listed = staff.get("/api/v1/scaling-groups").json()["results"]
    seen = staff.get(path).json()
    removed = staff.delete(path)

    assert [each["id"] for each in listed] == [seen["id"]] == [str(group.pk)]
    assert (removed.status_code, staff.get(path).status_code) == (204, 404)
