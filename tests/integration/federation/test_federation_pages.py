"""Pages of a federation's shape and members: settings that re-wire, versions, filters, what is done to one agent."""

import json

import pytest
from channels.layers import get_channel_layer
from django.urls import reverse
from django.utils import timezone

from federation import adaptation, agents, coordination, dispatch, forms, losses, maps
from federation.models import Agent, Event
from tests import factories

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


@pytest.fixture
def account():
    return factories.make_account()


@pytest.fixture
def alice(client, account):
    client.force_login(account.memberships.get(role="owner").user)
    return client


@pytest.fixture
def federation(account):
    return factories.make_federation(account, topology="star", max_agents=300)


@pytest.fixture
def anna(federation):
    return factories.make_agent(federation, "anna", capabilities=["trend"])


def address(account, name, *arguments):
    return reverse(f"federation:{name}", args=[account, *arguments])


def names(page):
    return sorted(agent.name for agent in page.context["page"].results)


@pytest.fixture
def crowd(federation, anna):
    factories.make_agent(federation, "bert", capabilities=["breakout"], runtime="managed")
    lost = factories.make_agent(federation, "cleo", capabilities=["trend"])
    losses.lose(agent=lost, now=timezone.now())
    agents.drain(agent=factories.make_agent(federation, "dara"), now=timezone.now())


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["anna", "bert", "cleo", "dara"]),
        ({"status": "idle"}, ["anna", "bert", "dara"]),
        ({"status": "lost"}, ["cleo"]),
        ({"status": "draining"}, ["dara"]),
        ({"status": "asleep"}, ["anna", "bert", "cleo", "dara"]),
        ({"runtime": "managed"}, ["bert"]),
        ({"capability": "trend"}, ["anna", "cleo"]),
        ({"capability": "trend", "status": "idle"}, ["anna"]),
        ({"q": "er"}, ["bert"]),
        ({"q": "breakout"}, ["bert"]),
        ({"q": "nobody"}, []),
    ],
)
def test_agents_are_found_by_status_runtime_capability_and_words(alice, account, federation, crowd, query, found):
    page = alice.get(address(account, "agents", federation.pk), query, headers=HTMX)

    assert names(page) == found
    assert page.context["page"].note == f"{len(found)} agent{'' if len(found) == 1 else 's'}"


def test_the_list_and_the_drawing_of_hundreds_cost_no_more_statements(
    alice, account, federation, anna, django_assert_max_num_queries
):
    now = timezone.now()
    Agent.objects.bulk_create(
        Agent(federation=federation, name=f"m{n}", position=100 + n, last_heartbeat_at=now, created_at=now)
        for n in range(250)
    )
    factories.make_agent(federation, "last")

    for tab, most in (("agents", 14), ("federation", 16), ("graph", 9), ("settings", 16)):
        with django_assert_max_num_queries(most):
            assert alice.get(address(account, tab, federation.pk)).status_code == 200
    page = alice.get(address(account, "federation", federation.pk))
    assert b"52 more in the list of agents" in page.content


def test_events_are_found_by_kind_and_words(alice, account, federation, crowd):
    def texts(**query):
        page = alice.get(address(account, "events", federation.pk), query, headers=HTMX)
        return [event.text for event in page.context["page"].results]

    assert texts(kind="draining") == ["dara drains."]
    assert texts(kind="joined", q="bert") == ["bert joined."]
    assert texts(q="no such words") == []
    assert len(texts(kind="nonsense")) > 5


def test_every_event_is_told_to_open_pages(heard, federation, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        agents.drain(agent=factories.make_agent(federation, "anna"), now=timezone.now())

    assert f"events-{federation.pk}" in {topic for names in heard for topic in names}


@pytest.fixture
def heard(monkeypatch):
    said = []
    monkeypatch.setattr(get_channel_layer(), "nudge", lambda account, topics, data=None: said.append(topics))
    return said


def settings_of(alice, account, federation, **changes):
    url = address(account, "settings", federation.pk)
    return url, {**alice.get(url).context["form"].initial, **changes}


def test_switching_in_the_page_keeps_the_drawing_and_says_so(alice, account, federation, anna):
    url, form = settings_of(alice, account, federation, topology="ring", max_hops=7)

    answer = alice.post(url, form, headers=HTMX)

    assert answer.status_code == 200
    assert b"<html" not in answer.content
    assert json.loads(answer["HX-Trigger"])["toast"] == {"level": "success", "text": "Re-wired as ring."}
    federation.refresh_from_db()
    assert (federation.topology, federation.max_hops) == ("ring", 7)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"heartbeat_seconds": 60, "agent_timeout_seconds": 60}, "agent_timeout_seconds"),
        ({"fan_out": 1}, "fan_out"),
        ({"max_agents": 2001}, "max_agents"),
        ({"topology": "cube"}, "topology"),
        ({"lease_seconds": ""}, "lease_seconds"),
    ],
)
def test_settings_that_make_no_sense_are_refused_beside_their_field(alice, account, federation, changes, field):
    url, form = settings_of(alice, account, federation, **changes)

    answer = alice.post(url, form, headers=HTMX)

    assert answer.status_code == 422
    assert list(answer.context["form"].errors) == [field]
    federation.refresh_from_db()
    assert federation.version == 1


def test_an_adaptive_federation_shows_what_each_shape_would_cost(alice, account):
    federation = factories.make_federation(account, topology="adaptive")
    url = address(account, "settings", federation.pk)
    assert b"Nothing is measured yet" in alice.get(url).content
    for n in range(3):
        factories.make_agent(federation, f"agent-{n}")
    adaptation.see_to_shapes(now=timezone.now())

    page = alice.get(url)

    assert {row["shape"] for row in page.context["costs"]} == {"mesh", "ring", "star", "hierarchical"}
    assert [row["shape"] for row in page.context["costs"] if row["in_force"]] == ["mesh"]
    assert b"until then it goes by size" in page.content
    assert b"too few to go by" in page.content
    part = alice.get(url + "?readings", headers=HTMX).content
    assert b"What each shape would cost" in part
    assert b"<form" not in part


def test_versions_are_listed_with_their_reasons(alice, account, federation, anna):
    page = alice.get(address(account, "versions", federation.pk))
    brief = alice.get(address(account, "versions", federation.pk), {"brief": "1"}, headers=HTMX)

    for each in (page, brief):
        assert b"anna joined. anna leads, epoch 1." in each.content
    assert b"<html" not in brief.content


def test_changing_an_agent(alice, account, anna):
    url = address(account, "agent-edit", anna.pk)
    form = {**alice.get(url).context["form"].initial, "capabilities": "breakout, trend", "weight": 4, "region": "eu"}

    answer = alice.post(url, form)

    assert answer["Location"] == address(account, "agent", anna.pk)
    anna.refresh_from_db()
    assert (anna.capabilities, anna.weight, anna.region) == (["breakout", "trend"], 4, "eu")
    assert alice.post(url, {**form, "max_concurrent_tasks": 0}).status_code == 422


def test_draining_and_back(alice, account, anna):
    alice.post(address(account, "agent-drain", anna.pk))
    drained = alice.get(address(account, "agent", anna.pk))
    alice.post(address(account, "agent-drain", anna.pk), {"end": "1"})
    back = alice.get(address(account, "agent", anna.pk))

    assert b"Take work again" in drained.content
    assert b"Take work again" not in back.content


def test_one_that_works_leaves_when_it_is_done_or_at_once(alice, account, federation, anna):
    factories.make_task(federation)
    dispatch.claim(agent=anna, now=timezone.now())

    waiting = alice.post(address(account, "agent-remove", anna.pk), {"when_done": "1"})
    assert waiting["Location"] == address(account, "agent", anna.pk)
    assert b"leaves when done" in alice.get(address(account, "agent", anna.pk)).content

    gone = alice.post(address(account, "agent-remove", anna.pk))
    assert gone["Location"] == address(account, "agents", federation.pk)
    assert Event.objects.filter(kind="left").exists()


def test_a_lost_agent_has_no_place_in_the_shape(alice, account, federation, crowd):
    lost = Agent.objects.get(name="cleo")

    page = alice.get(address(account, "agent", lost.pk))

    assert page.status_code == 200
    assert page.context["neighbours"] == []
    assert lost.pk not in maps.shape(federation)
    assert b"Drain</button>" not in page.content


def test_a_change_of_shape_alone_says_who_did_it(federation, anna):
    coordination.change_federation(federation=federation, changes={"fan_out": 8}, by="Alice", now=timezone.now())

    assert federation.versions.order_by("-version").first().reason == "Alice set a fan-out of 8."


def test_the_settings_form_shows_every_field_it_needs():
    shown = [field.name for _, fields in forms.SettingsForm().groups() for field in fields]

    assert sorted(shown) == sorted(forms.SettingsForm.base_fields)
