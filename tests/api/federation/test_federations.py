import pytest
from django.db import IntegrityError, transaction

from federation.models import Event, Federation
from tests import factories

pytestmark = pytest.mark.django_db


def test_a_federation_is_created_with_the_contracts_defaults(api):
    answer = api.post("federations", {"name": "momentum"})

    assert answer.status_code == 201
    body = answer.json()
    assert {name: body[name] for name in ("topology", "effective_topology", "max_agents", "max_hops", "fan_out")} == {
        "topology": "mesh",
        "effective_topology": "mesh",
        "max_agents": 50,
        "max_hops": 0,
        "fan_out": 4,
    }
    assert (body["lease_seconds"], body["heartbeat_seconds"], body["agent_timeout_seconds"]) == (30, 10, 60)
    assert (body["topology_version"], body["leader"], body["agents"], body["tasks"]) == (1, None, 0, {})
    assert api.get(f"federations/{body['id']}").json() == body


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("topology", "cube"),
        ("strategy", "best"),
        ("max_agents", 0),
        ("max_agents", "5"),
        ("fan_out", 1),
        ("lease_seconds", 1),
        ("name", ""),
        ("colour", "red"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(api, field, value):
    answer = api.post("federations", {"name": "momentum", field: value})

    assert answer.status_code == 400
    assert list(answer.json()["errors"]) == [field]


def test_delivery_is_logical_unless_asked_otherwise(api):
    plain = api.post("federations", {"name": "momentum"})
    relayed = api.post("federations", {"name": "momentum", "delivery": "relayed"})

    assert (plain.json()["delivery"], relayed.json()["delivery"]) == ("logical", "relayed")
    assert api.post("federations", {"name": "momentum", "delivery": "pigeon"}).status_code == 400


def test_changing_the_topology_rewires_and_raises_its_version(api, federation):
    before = federation.topology_version

    answer = api.patch(f"federations/{federation.pk}", {"topology": "ring"})

    assert answer.json()["topology"] == "ring"
    assert answer.json()["topology_version"] == before + 1
    assert Event.objects.filter(kind="rewired").exists()


def test_changing_another_setting_leaves_the_topology_alone(api, federation):
    answer = api.patch(f"federations/{federation.pk}", {"strategy": "random", "region": "eu"})

    assert (answer.json()["strategy"], answer.json()["topology_version"]) == ("random", federation.topology_version)


def test_the_slower_of_two_changes_is_told(api, federation):
    first = api.patch(f"federations/{federation.pk}", {"name": "one"}, **{"If-Match": '"1"'})
    second = api.patch(f"federations/{federation.pk}", {"name": "two"}, **{"If-Match": "1"})

    assert (first.status_code, second.status_code) == (200, 409)
    assert Federation.objects.get().name == "one"


def test_a_deleted_federation_is_not_found_and_its_tasks_are_cancelled(api, federation):
    task = factories.make_task(federation)

    assert api.delete(f"federations/{federation.pk}").status_code == 204

    assert api.get(f"federations/{federation.pk}").status_code == 404
    task.refresh_from_db()
    assert task.state == "cancelled"


def test_others_find_nothing(charlie, federation):
    agent = factories.make_agent(federation)
    task = factories.make_task(federation)
    root = f"federations/{federation.pk}"

    for path in (root, f"{root}/topology", f"{root}/agents", f"{root}/tasks", f"{root}/messages", f"{root}/events"):
        assert charlie.get(path).status_code == 404
    for path in (f"agents/{agent.pk}", f"tasks/{task.pk}", f"agents/{agent.pk}/inbox"):
        assert charlie.get(path).status_code == 404
    assert charlie.post(f"{root}/tasks", {"type": "work"}).status_code == 404
    assert charlie.delete(root).status_code == 404
    assert charlie.get("federations").json()["results"] == []


def test_a_key_without_the_scope_is_refused(account, federation, as_agent):
    caller = as_agent(factories.make_key(account, scopes=("federation:read",))[1])

    assert caller.get(f"federations/{federation.pk}").status_code == 200
    assert caller.post("federations", {"name": "x"}).json()["code"] == "missing_scope"


def test_the_list_filters_and_pages(api, account):
    for number in range(3):
        factories.make_federation(account, name=f"f{number}", topology="ring" if number else "star")

    assert [each["name"] for each in api.get("federations").json()["results"]] == ["f2", "f1", "f0"]
    assert [each["name"] for each in api.get("federations", topology="star").json()["results"]] == ["f0"]
    assert api.get("federations", page_size=2).json()["next"]
    assert api.get("federations", topology="cube").status_code == 400


@pytest.mark.parametrize("moment", ["0811-01-16T20:00:41+17:59", "0001-01-01T00:00:00+14:00", "x", "2026-01-01"])
def test_a_strange_time_is_answered_not_broken_by(api, federation, moment):
    assert api.get("federations", created_after=moment).status_code in (200, 400)


def test_the_list_costs_the_same_however_many(api, account, django_assert_max_num_queries):
    for number in range(12):
        federation = factories.make_federation(account, name=f"f{number}")
        factories.make_agent(federation)
        factories.make_task(federation)

    with django_assert_max_num_queries(12):
        assert len(api.get("federations").json()["results"]) == 12


def test_the_topology_names_its_members_links_and_numbers(api, account):
    federation = factories.make_federation(account, topology="hierarchical", fan_out=2)
    members = [factories.make_agent(federation, f"agent-{number}") for number in range(4)]

    body = api.get(f"federations/{federation.pk}/topology").json()

    first, second, third, fourth = (str(member.pk) for member in members)
    assert body["leader"] == first
    assert [node["level"] for node in body["nodes"]] == [0, 1, 1, 2]
    assert [node["role"] for node in body["nodes"]] == ["leader", "worker", "worker", "worker"]
    assert body["links"] == [[first, second], [first, third], [second, fourth]]
    assert body["metrics"] == {"links": 3, "diameter": 3, "mean_hops": pytest.approx(10 / 6)}
    assert body["epoch"] == 1
    assert [(each["version"], each["members"], each["shape"]) for each in body["history"]] == [
        (5, 4, "hierarchical"),
        (4, 3, "hierarchical"),
        (3, 2, "hierarchical"),
        (2, 1, "hierarchical"),
        (1, 0, "hierarchical"),
    ]
    assert body["history"][3]["reason"] == "agent-0 joined. agent-0 leads, epoch 1."
    assert (body["history"][4]["reason"], body["history"][4]["figures"]) == (
        "Created with the topology hierarchical by Alice.",
        None,
    )


def test_a_route_names_every_member_on_the_way(api, account):
    federation = factories.make_federation(account, topology="star")
    hub, one, two = (str(factories.make_agent(federation, f"agent-{number}").pk) for number in range(3))

    body = api.get(f"federations/{federation.pk}/route", **{"from": one, "to": two}).json()

    assert body == {"path": [one, hub, two], "hops": 2}
    stranger = api.get(f"federations/{federation.pk}/route", **{"from": one, "to": str(federation.pk)})
    assert stranger.status_code == 404
    assert api.get(f"federations/{federation.pk}/route", **{"from": "x", "to": two}).status_code == 400


def test_events_tell_what_happened_the_newest_first(api, federation):
    factories.make_agent(federation, "anna")

    kinds = [event["kind"] for event in api.get(f"federations/{federation.pk}/events").json()["results"]]

    assert kinds == ["elected", "joined", "created"]
    assert len(api.get(f"federations/{federation.pk}/events", kind="joined").json()["results"]) == 1


def test_F3_a_federation_that_names_nothing_is_a_mesh_of_at_most_50_agents():
    assert (Federation().topology, Federation().max_agents) == ("mesh", 50)


@pytest.mark.parametrize(
    "change",
    [{"heartbeat_seconds": 60}, {"agent_timeout_seconds": 10}, {"heartbeat_seconds": 20, "agent_timeout_seconds": 20}],
)
def test_an_agent_may_be_silent_between_two_heartbeats(api, change):
    made = api.post("federations", {"name": "one"}).json()

    refused = [api.post("federations", {"name": "two", **change}), api.patch(f"federations/{made['id']}", change)]

    assert [answer.status_code for answer in refused] == [400, 400]
    assert {*refused[0].json()["errors"], *refused[1].json()["errors"]} == {"agent_timeout_seconds"}
    found = Federation.objects.get()
    assert (found.heartbeat_seconds, found.agent_timeout_seconds) == (10, 60)
    with pytest.raises(IntegrityError), transaction.atomic():
        Federation.objects.update(agent_timeout_seconds=10)
