"""What isolates on each node, over HTTP: the operator's."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def node() -> Any:
    now = timezone.now().isoformat()
    probes = [
        {"engine": "gvisor", "ok": False, "reasons": ["runsc is not there"]},
        {"engine": "bubblewrap", "ok": True, "reasons": []},
    ]
    said = {"engine": "bubblewrap", "since": now, "why": "It passed.", "promises": ["shared kernel"], "probes": probes}
    limits = {"memory": "cgroup v2"}
    told = said | {"limits": limits, "languages": ["python"], "network": "off", "reasons": [], "seen": now}
    factories.make_node("silent one", "unknown")
    return factories.make_node("node-a", metadata={"told": {"sandboxes": told}})


def test_staff_sees_engine_promises_limits_and_what_each_probe_said(client: Client, node: Any) -> None:
    client.force_login(factories.make_staff())

    answer = client.get("/api/v1/engines")

    assert answer.status_code == 200
    (told,) = answer.json()["results"]
    assert (told["node"], told["name"], told["silent"]) == (str(node.pk), "node-a", False)
    assert (told["engine"], told["why"], told["promises"]) == ("bubblewrap", "It passed.", ["shared kernel"])
    assert told["limits"] == {"memory": "cgroup v2"}
    assert told["probes"][0] == {"engine": "gvisor", "ok": False, "reasons": ["runsc is not there"]}


def test_the_node_itself_carries_it_too(client: Client, node: Any) -> None:
    client.force_login(factories.make_staff())

    answer = client.get(f"/api/v1/nodes/{node.pk}").json()

    assert answer["metadata"]["told"]["sandboxes"]["engine"] == "bubblewrap"


def test_a_customer_does_not(client: Client, node: Any) -> None:
    secret = factories.make_key(factories.make_account(), scopes=("sandboxes:read",))[1]

    answer = client.get("/api/v1/engines", headers={"Authorization": f"Bearer {secret}"})

    assert answer.status_code == 403
