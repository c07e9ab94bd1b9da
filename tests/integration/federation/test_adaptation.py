"""The adaptive topology measures what really happened and re-wires where that pays."""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from federation import adaptation, agents, bus, coordination, dispatch, history, maps
from federation.models import Event, Reading
from tests import factories

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 1, 12, 0, 2, tzinfo=UTC)


def after(seconds):
    return NOW + timedelta(seconds=seconds)


@pytest.fixture
def federation():
    return factories.make_federation(topology="adaptive", now=NOW)


@pytest.fixture
def crew(federation):
    return [factories.make_agent(federation, f"agent-{n}", now=NOW) for n in range(12)]


def talk(federation, pairs, seconds):
    """One message along each pair, at that moment."""
    drafts = [bus.Draft(a.pk, b.pk if b else None) for a, b in pairs]
    answers = bus.send_many(federation=federation, drafts=drafts, now=after(seconds))
    assert not any(isinstance(answer, Exception) for answer in answers)
    history.flush_all(now=after(seconds))


def in_turn(crew, times=10):
    return [(crew[n], crew[(n + 1) % len(crew)]) for n in range(len(crew))] * times


def windows(federation, crew, first, last):
    """A pipeline's traffic in these windows; what was re-wired, by window."""
    changed = []
    for number in range(first, last):
        talk(federation, in_turn(crew), number * 30 + 10)
        if adaptation.see_to_shapes(now=after((number + 1) * 30)):
            changed.append(number)
    return changed


def test_a_window_counts_what_its_rows_say(federation, crew):
    talk(federation, [(crew[1], crew[2]), (crew[1], crew[2]), (crew[0], crew[3]), (crew[4], None)], 5)
    talk(federation, [(crew[1], crew[2])], 31)  # of the next window
    factories.make_task(federation, now=after(6))
    dispatch.assign(federation_id=federation.pk, now=after(6), rng=Random(1))
    agents.leave(agent=crew[11], now=after(7))

    adaptation.see_to_shapes(now=after(30))

    reading = Reading.objects.get()
    assert reading.ended_at == datetime(2026, 11, 1, 12, 0, 30, tzinfo=UTC)
    counted = (reading.direct, reading.relayed, reading.broadcasts, reading.handed, reading.failures, reading.members)
    # In a star of twelve (by size) the two from leaf to leaf were relayed.
    assert counted == (3, 2, 1, 1, 1, 11)
    assert set(reading.costs) == {"mesh", "ring", "star", "hierarchical"}


def test_three_windows_of_a_pipeline_make_it_a_ring_with_reason_and_figures(federation, crew):
    assert maps.shape(federation).shape == "star"

    assert windows(federation, crew, 0, 4) == [2]

    federation.refresh_from_db()
    assert (federation.topology, federation.adapted, maps.shape(federation).shape) == ("adaptive", "ring", "ring")
    version = federation.versions.get(version=federation.topology_version)
    assert version.shape == "ring"
    assert version.reason.startswith("Measured: ring costs ")
    assert [figures["direct"] for figures in version.figures] == [120, 120, 120]
    assert Event.objects.filter(kind="rewired").get().text.startswith("Re-wired as ring. Measured:")


def test_a_window_is_measured_once(federation, crew):
    for _ in range(2):
        adaptation.see_to_shapes(now=after(30))

    assert Reading.objects.count() == 1


def test_a_pause_between_windows_begins_anew(federation, crew):
    assert windows(federation, crew, 0, 2) == []
    assert windows(federation, crew, 3, 5) == []


def test_little_traffic_leaves_the_shape_to_the_size(federation, crew):
    for number in range(4):
        talk(federation, in_turn(crew, 1), number * 30 + 10)
        adaptation.see_to_shapes(now=after((number + 1) * 30))

    federation.refresh_from_db()
    assert federation.adapted == ""


def test_another_topology_forgets_what_was_measured(federation, crew):
    windows(federation, crew, 0, 3)

    for topology in ("star", "adaptive"):
        coordination.change_federation(
            federation=federation, changes={"topology": topology}, by="Alice", now=after(200)
        )

    federation.refresh_from_db()
    assert (federation.adapted, maps.shape(federation).shape) == ("", "star")


def test_old_readings_go(federation, crew):
    adaptation.see_to_shapes(now=after(30))
    adaptation.see_to_shapes(now=after(30) + timedelta(days=2))

    assert Reading.objects.count() == 1


def test_messages_on_their_way_arrive_across_a_change(federation, crew):
    talk(federation, [(crew[5], crew[8])], 1)
    windows(federation, crew, 0, 3)

    items = bus.receive(agent=crew[8], most=100, clock=lambda: after(91))

    assert len(items) == 1 + 30
    assert len({item.message["id"] for item in items}) == 31


def test_an_idle_product_pays_one_statement(django_assert_num_queries):
    with django_assert_num_queries(1):
        adaptation.see_to_shapes(now=NOW)
