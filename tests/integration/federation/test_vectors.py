"""The index of a large namespace: made by the sweep, nearly as good as looking at everything, dropped with its namespace."""

from datetime import timedelta
from random import Random

import pytest
from django.db import connection
from django.utils import timezone

from federation import memory, vectors
from federation.models import MemoryEntry
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)
NOW = timezone.now()


def test_a_large_namespace_gets_an_index_that_finds_nearly_all_and_goes_with_it(monkeypatch):
    if vectors.version() is None:
        pytest.skip("this PostgreSQL has no pgvector")
    monkeypatch.setattr(vectors, "EXACT_BELOW", 400)
    federation, chance = factories.make_federation(), Random(3)
    space = memory.configure(federation=federation, name="notes", dimension=8, now=NOW)
    points = [[chance.gauss(0, 1) for _ in range(8)] for _ in range(500)]
    MemoryEntry.objects.bulk_create(
        MemoryEntry(
            namespace=space, key=f"k{n}", embedding=point, dimension=8, metadata={"fifth": n % 5 == 0},
            created_at=NOW, updated_at=NOW,
        )
        for n, point in enumerate(points)
    )  # fmt: skip

    assert vectors.see_to_indexes() == [vectors.index_of(space.pk)]
    assert vectors.see_to_indexes() == []

    def keys(point, **how):
        found = vectors.nearest(space=space, embedding=point, most=10, now=NOW + timedelta(seconds=1), **how)
        return {each.entry.key for each in found}

    with connection.execute_wrapper(_without_sequential_scans):
        shared = [len(keys(point) & keys(point, exact=True)) for point in points[:20]]
        narrowed = keys(points[1], having={"fifth": True})
    assert sum(shared) / 200 > 0.9
    assert len(narrowed) == 10
    assert all(int(key[1:]) % 5 == 0 for key in narrowed)

    memory.forget_namespace(federation=federation, name="notes")
    assert vectors.see_to_indexes() == [vectors.index_of(space.pk)]
    assert vectors._indexes() == {}


def _without_sequential_scans(execute, sql, params, many, context):
    """500 rows are too few for the planner to bother with an index."""
    if "embedding::vector" in sql and "+ 0" not in sql:
        context["cursor"].execute("set local enable_seqscan = off; set local enable_sort = off")
    return execute(sql, params, many, context)
