"""Every change of membership, shape or leader is one version, stored with its reason; and the shape heals."""

from datetime import timedelta

import networkx
import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from federation import agents, coordination, losses, maps, wiring
from federation.beats import Beat
from federation.models import Agent, Federation, TopologyVersion
from federation.topology import FIXED
from tests import factories

pytestmark = pytest.mark.django_db
NOW = timezone.now()


def after(seconds):
    return NOW + timedelta(seconds=seconds)


def made(topology, count, **settings):
    federation = factories.make_federation(topology=topology, now=NOW, **settings)
    return federation, [factories.make_agent(federation, f"agent-{n}", now=NOW) for n in range(count)]


def as_graph(federation):
    shape = maps.shape(federation)
    graph = networkx.Graph()
    graph.add_nodes_from(shape.members)
    graph.add_edges_from((shape.members[a], shape.members[b]) for a, b in shape.links())
    return graph


def told(federation):
    rows = TopologyVersion.objects.filter(federation=federation).order_by("version")
    return [(row.version, row.members, row.reason) for row in rows]


def test_the_versions_tell_what_happened_in_order():
    federation, (first, second) = made("star", 2)

    agents.leave(agent=second, by="Alice", now=NOW)
    coordination.change_federation(federation=federation, changes={"topology": "ring"}, by="Alice", now=NOW)

    assert told(federation) == [
        (1, 0, "Created with the topology star by Alice."),
        (2, 1, "agent-0 joined. agent-0 leads, epoch 1."),
        (3, 2, "agent-1 joined."),
        (4, 1, "agent-1 was removed by Alice."),
        (5, 1, "Alice re-wired star to ring."),
    ]
    assert TopologyVersion.objects.get(federation=federation, version=5).shape == "ring"
    federation.refresh_from_db()
    assert (federation.topology_version, federation.leader) == (5, first)


@pytest.mark.parametrize("shape", FIXED)
@pytest.mark.parametrize("gone", [0, 1, 5])
@pytest.mark.parametrize("how", ["leaves", "is lost"])
def test_whoever_goes_the_rest_is_one_shape_again_one_version_later(shape, gone, how):
    federation, members = made(shape, 7, fan_out=2, heartbeat_seconds=40)
    signs = [Beat(member.pk) for member in members if member != members[gone]]
    agents.heartbeat_many(beats=signs, now=after(55))
    before = Federation.objects.get(pk=federation.pk)

    if how == "leaves":
        agents.leave(agent=members[gone], now=NOW)
    else:
        losses.lose(agent=members[gone], now=after(61))

    graph = as_graph(federation)
    assert members[gone].pk not in graph
    assert networkx.is_connected(graph)
    assert graph.number_of_edges() == {"mesh": 15, "ring": 6, "star": 5, "hierarchical": 5}[shape]
    federation.refresh_from_db()
    assert federation.topology_version == before.topology_version + 1
    assert (federation.epoch, federation.leader_id == members[gone].pk) == (before.epoch + (gone == 0), False)


def test_the_children_of_a_lost_inner_member_find_a_parent():
    federation, members = made("hierarchical", 7, fan_out=2)
    child = members[3]
    assert maps.shape(federation).neighbours(child.pk) == [members[1].pk]

    losses.lose(agent=members[1], now=after(61))

    (parent,) = [near for near in maps.shape(federation).neighbours(child.pk) if near != members[1].pk][:1]
    assert parent in {member.pk for member in members}


def test_a_leader_whose_lease_ran_out_is_replaced_in_one_version():
    federation, members = made("star", 3, heartbeat_seconds=2)
    for member in members[1:]:
        agents.heartbeat(agent=member, status="idle", load=None, running=[], now=after(4))

    assert wiring.see_to_leaders(now=after(4)) == [federation.pk]

    assert told(federation)[-1] == (5, 3, "The lease of agent-0 ran out. agent-1 leads, epoch 2.")
    assert maps.shape(federation).neighbours(members[2].pk) == [members[1].pk]


def test_a_version_of_a_shape_is_read_once(django_assert_num_queries):
    federation, _ = made("ring", 3)
    maps.shape(federation)

    with django_assert_num_queries(1):
        shape = maps.shape(federation)

    assert len(shape) == 3
    factories.make_agent(federation, "one more")
    assert len(maps.shape(federation)) == 4


def test_members_and_version_are_of_one_moment(monkeypatch):
    federation, _ = made("ring", 3)
    refresh = Federation.refresh_from_db

    def refresh_then_join(self, **options):
        refresh(self, **options)
        monkeypatch.setattr(Federation, "refresh_from_db", refresh)
        factories.make_agent(federation, "in between")

    monkeypatch.setattr(Federation, "refresh_from_db", refresh_then_join)
    asked = Federation.objects.get(pk=federation.pk)

    assert len(maps.shape(asked)) == 4
    assert asked.topology_version == 5


def test_adaptive_by_size_says_its_shape_with_each_version():
    federation, _ = made("adaptive", 11)

    shapes = list(federation.versions.order_by("version").values_list("shape", flat=True))

    assert shapes == ["mesh"] * 11 + ["star"]


@transaction.atomic
def go_to(federation, version):
    Federation.objects.filter(pk=federation.pk).update(topology_version=version)
    with connection.cursor() as cursor:
        cursor.execute("set constraints all immediate")


@pytest.mark.parametrize(("version", "words"), [(3, "is not stored"), (4, "from version 2 to 4"), (1, "to 1")])
def test_the_database_knows_no_version_that_is_not_stored_nor_skips_one(version, words):
    federation, _ = made("ring", 1)

    with pytest.raises(IntegrityError, match=words):
        go_to(federation, version)


def test_an_agent_that_drains_leads_only_if_nobody_else_can():
    federation, (first, second, third) = made("star", 3)
    agents.drain(agent=second, now=NOW)

    agents.leave(agent=first, now=NOW)

    federation.refresh_from_db()
    assert federation.leader == third
    agents.leave(agent=third, now=NOW)
    federation.refresh_from_db()
    assert federation.leader == second


def test_a_large_mesh_is_an_overlay_whose_links_are_drawn_and_routed():
    federation, _ = made("mesh", 1, max_agents=100)
    rows = [
        Agent(federation=federation, name=f"m{n}", position=100 + n, last_heartbeat_at=NOW, created_at=NOW)
        for n in range(79)
    ]
    Agent.objects.bulk_create(rows)
    one = factories.make_agent(federation, "last", now=NOW)

    drawn = maps.snapshot(federation)

    assert len(drawn["links"]) == 3 * 81
    assert len(maps.shape(federation).neighbours(one.pk)) == 6
