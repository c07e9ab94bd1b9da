"""The HTTP promises about webhook endpoints, their deliveries and replays."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from billing.models import WebhookDelivery, WebhookEndpoint
from billing.outgoing import event_types
from tests import outgoing_cast

pytestmark = pytest.mark.django_db
URL = "https://ops.example/hook"


def add(caller, **changes):
    return caller.post("webhook-endpoints", {"url": URL, "events": ["invoice.paid"], **changes})


@pytest.fixture
def made(alice):
    return add(alice).json()


def test_an_endpoint_is_made_and_its_secret_shown_once(alice):
    body = {"url": URL, "events": ["*"]}
    first = alice.post("webhook-endpoints", body, key="one")
    again = alice.post("webhook-endpoints", body, key="one")
    made = first.json()

    assert first.status_code == 201
    assert made["secret"].startswith("whsec_")
    assert made["secret_hint"] == f"whsec_…{made['secret'][-4:]}"
    assert (made["url"], made["events"], made["enabled"], made["disabled_reason"]) == (URL, ["*"], True, None)
    assert (again.json()["id"], again.json()["secret"]) == (made["id"], None)
    assert "secret" not in alice.get(f"webhook-endpoints/{made['id']}").json()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"url": "http://ops.example/"}, "url"),
        ({"url": "https://10.0.0.1/"}, "url"),
        ({"url": "nonsense"}, "url"),
        ({"events": []}, "events"),
        ({"events": ["coffee.ready"]}, "events.0"),
        ({"events": ["node.unhealthy"]}, "events"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_an_endpoint_that_cannot_be_is_refused_by_field(alice, changes, field):
    answer = add(alice, **changes)

    assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")
    assert field in answer.json()["errors"]
    assert not WebhookEndpoint.objects.exists()


def test_staff_hear_of_the_machines(stella):
    assert add(stella, events=["node.unhealthy"]).status_code == 201


def test_an_account_has_at_most_twenty(alice):
    for _ in range(20):
        outgoing_cast.make_endpoint(alice.account)

    assert (add(alice).status_code, add(alice).json()["code"]) == (429, "resource_limit_exceeded")


def test_it_is_changed_switched_off_and_on(alice, made):
    path = f"webhook-endpoints/{made['id']}"
    off = alice.patch(path, {"enabled": False, "description": "ops"}).json()
    refused = alice.post(f"{path}/test")
    on = alice.patch(path, {"enabled": True, "events": ["*"]}).json()

    assert (off["enabled"], off["disabled_reason"], off["description"]) == (False, "owner", "ops")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert (on["enabled"], on["disabled_at"], on["events"]) == (True, None, ["*"])
    assert alice.post(f"{path}/test").status_code == 201


def test_rotating_gives_a_new_secret_and_an_overlap(alice, made):
    path = f"webhook-endpoints/{made['id']}/rotate"
    rotated = alice.post(path, {"overlap_hours": 2}).json()
    at_once = alice.post(path, {"overlap_hours": 0}).json()

    assert len({made["secret"], rotated["secret"], at_once["secret"]}) == 3
    assert rotated["old_secret_until"] > timezone.now().isoformat()
    assert at_once["old_secret_until"] is None
    assert alice.post(path, {"overlap_hours": 1000}).status_code == 400


def test_the_log_is_listed_and_one_delivery_shown(alice, made):
    sent = alice.post(f"webhook-endpoints/{made['id']}/test").json()
    listed = alice.get(f"webhook-endpoints/{made['id']}/deliveries", state="pending", type="endpoint.test").json()

    assert [row["id"] for row in listed["results"]] == [sent["id"]]
    assert sent["event"].startswith("evt_")
    assert (sent["state"], sent["attempts"], sent["data"], sent["log"]) == ("pending", 0, {"message": "It works."}, [])
    assert alice.get(f"webhook-deliveries/{sent['id']}").json() == sent
    assert alice.get(f"webhook-endpoints/{made['id']}/deliveries", state="eaten").status_code == 400


def test_one_event_is_replayed_under_its_id(alice, made):
    sent = alice.post(f"webhook-endpoints/{made['id']}/test").json()
    done = {"state": "delivered", "due_at": None, "finished_at": timezone.now()}
    WebhookDelivery.objects.filter(pk=sent["id"]).update(**done)

    again = alice.post(f"webhook-deliveries/{sent['id']}/replay")

    assert again.status_code == 201
    assert again.json()["id"] != sent["id"]
    assert (again.json()["event"], again.json()["is_replay"]) == (sent["event"], True)
    # While it waits, asking once more queues it once.
    assert alice.post(f"webhook-deliveries/{sent['id']}/replay").json()["id"] == again.json()["id"]


def test_everything_it_wants_since_a_moment_is_replayed(alice):
    now = timezone.now()
    early = outgoing_cast.make_endpoint(alice.account)
    for hours in (30, 2, 1):
        outgoing_cast.tell(alice.account, "invoice.paid", now=now - timedelta(hours=hours))
    outgoing_cast.tell(alice.account, "credits.low")
    early.delete()  # and another takes its place
    made = add(alice).json()

    answer = alice.post(f"webhook-endpoints/{made['id']}/replay", {"since": (now - timedelta(hours=3)).isoformat()})

    assert answer.json() == {"events": 2}
    states = alice.get(f"webhook-endpoints/{made['id']}/deliveries").json()["results"]
    assert [(row["type"], row["is_replay"]) for row in states] == [("invoice.paid", True)] * 2


def test_the_catalogue_names_every_type(alice):
    answer = alice.get("webhook-event-types").json()

    assert [row["name"] for row in answer["results"]] == list(event_types.NAMES)


def test_others_find_nothing_and_keys_need_the_scope(alice, charlie, made):
    path = f"webhook-endpoints/{made['id']}"
    reader = type(alice)(alice.account, scopes=("billing:write",))

    assert [charlie.get(path).status_code, charlie.post(f"{path}/rotate").status_code] == [404, 404]
    assert charlie.get("webhook-endpoints").json()["results"] == []
    assert reader.get(path).status_code == 403


def test_lists_cost_the_same_number_of_queries_however_long(alice, made, django_assert_max_num_queries):
    for _ in range(5):
        alice.post(f"webhook-endpoints/{made['id']}/test")

    with django_assert_max_num_queries(8):
        alice.get(f"webhook-endpoints/{made['id']}/deliveries")


def test_one_is_removed_with_its_log(alice, made):
    alice.post(f"webhook-endpoints/{made['id']}/test")

    gone = alice._client.delete(f"/api/v1/webhook-endpoints/{made['id']}")

    assert gone.status_code == 204
    assert not WebhookDelivery.objects.exists()
