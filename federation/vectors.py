"""The nearest entries of a namespace, by pgvector: exactly while it is small, by an HNSW index once it is large.

Embeddings are kept as plain arrays, so a database without pgvector keeps them too; only searching needs it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import DatabaseError, connection, transaction
from django.db.models import Count

from federation.memory import Unfit
from federation.models import MemoryEntry, MemoryNamespace

# The metric's operator and the operator class of its index.
OPERATORS = {
    "cosine": ("<=>", "vector_cosine_ops"),
    "l2": ("<->", "vector_l2_ops"),
    "inner_product": ("<#>", "vector_ip_ops"),
}
# A scan of so many is as fast as the index, and misses nothing.
EXACT_BELOW = 5000
INDEX = "memory_nearest_"
INSTALLED = """
select (select extversion from pg_extension where extname = 'vector'),
       (select default_version from pg_available_extensions where name = 'vector')
"""
NEAREST = """
select id, (embedding::vector({dimension}) {operator} %(asked)s::vector({dimension})) {exactly} as distance
from federation_memoryentry
where namespace_id = %(space)s and embedding is not null and deleted_at is null
  and (expires_at is null or expires_at > %(now)s) and id <> %(but)s and metadata @> %(having)s::jsonb
order by (embedding::vector({dimension}) {operator} %(asked)s::vector({dimension})) {exactly}
limit %(most)s
"""
NOBODY = UUID(int=0)


class NoVectors(Exception):
    """Raised when the database has no pgvector."""

    code = "not_implemented"

    def __init__(self) -> None:
        super().__init__(advice())


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An entry and how far it is: for `inner_product` the product, negated, as pgvector says it."""

    entry: MemoryEntry
    distance: float


def advice() -> str:
    major = connection.pg_version // 10000
    return (
        f"Vector search needs pgvector, which this PostgreSQL {major} does not have. Install it (on Debian the package "
        f"postgresql-{major}-pgvector), and run `create extension vector` as a superuser."
    )


def version() -> str | None:
    """Of the pgvector in use; makes the extension where it only has to be made. None when there is none."""
    with connection.cursor() as cursor:
        cursor.execute(INSTALLED)
        installed, available = cursor.fetchone()
        if installed or not available:
            return installed  # type: ignore[no-any-return]
        try:
            with transaction.atomic():
                cursor.execute("create extension if not exists vector")
        except DatabaseError:  # not ours to make, or somebody makes it at the same time
            pass
        cursor.execute(INSTALLED)
        return cursor.fetchone()[0]  # type: ignore[no-any-return]


@transaction.atomic
def nearest(
    *,
    space: MemoryNamespace,
    embedding: list[float],
    most: int,
    now: datetime,
    having: dict[str, Any] | None = None,
    but: UUID | None = None,
    exact: bool = False,
) -> list[Neighbour]:
    """The nearest first: of those whose metadata has all of `having`, without the entry `but`.

    Raises NoVectors, and Unfit for an embedding of another dimension.
    """
    found = version()
    if found is None:
        raise NoVectors
    if space.dimension is None:
        return []
    if len(embedding) != space.dimension:
        raise Unfit("embedding", f"The embeddings of this namespace have {space.dimension} numbers.")
    is_exact = exact or not has_index(space)
    rows = _rows(space, embedding, most, now, having or {}, but or NOBODY, is_exact, found)
    entries = MemoryEntry.objects.in_bulk([pk for pk, _ in rows])
    return [Neighbour(entries[pk], distance) for pk, distance in rows]


def _rows(
    space: MemoryNamespace,
    embedding: list[float],
    most: int,
    now: datetime,
    having: dict[str, Any],
    but: UUID,
    is_exact: bool,
    found: str,
) -> list[tuple[UUID, float]]:
    operator, _ = OPERATORS[space.metric]
    # An expression the index knows nothing of is computed for every row.
    query = NEAREST.format(dimension=space.dimension, operator=operator, exactly="+ 0" if is_exact else "")
    given = {"asked": str(embedding), "space": space.pk, "now": now, "but": but, "most": most}
    given["having"] = json.dumps(having)
    with connection.cursor() as cursor:
        if not is_exact:
            cursor.execute("set local hnsw.ef_search = %s", [min(max(2 * most, 100), 1000)])
            if _is_at_least(found, 0, 8):
                # Filters do not shorten the answer: the index is walked on until there are enough.
                cursor.execute("set local hnsw.iterative_scan = strict_order")
        cursor.execute(query, given)
        return [(pk, float(distance)) for pk, distance in cursor.fetchall() if distance == distance]


def _is_at_least(found: str | None, *wanted: int) -> bool:
    """Debian 12 has a pgvector from before HNSW: it searches exactly, however large a namespace is."""
    return found is not None and tuple(map(int, found.split(".")[:2])) >= wanted


# Indexes


def index_of(space_id: UUID) -> str:
    return f"{INDEX}{space_id.hex}"


def has_index(space: MemoryNamespace) -> bool:
    return _indexes().get(index_of(space.pk), False)


def _indexes() -> dict[str, bool]:
    """Those there are, and whether each is complete."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select relname, indisvalid from pg_class join pg_index on indexrelid = oid where starts_with(relname, %s)",
            [INDEX],
        )
        return dict(cursor.fetchall())


def see_to_indexes() -> list[str]:
    """Make the indexes large namespaces lack, drop those nobody needs, outside any transaction; returns their names.

    One process at a time: what another is making looks broken until it is made.
    """
    with connection.cursor() as cursor:
        cursor.execute("select pg_try_advisory_lock(hashtext(%s))", [INDEX])
        if not cursor.fetchone()[0]:
            return []
        try:
            return _see_to_indexes()
        finally:
            cursor.execute("select pg_advisory_unlock(hashtext(%s))", [INDEX])


def _see_to_indexes() -> list[str]:
    there = _indexes()
    embedded = MemoryEntry.objects.exclude(embedding=None).values("namespace").annotate(n=Count("pk"))
    large = [row["namespace"] for row in embedded.filter(n__gte=EXACT_BELOW)]
    if not large and not there:
        return []
    wanted = {index_of(space.pk): space for space in MemoryNamespace.objects.filter(pk__in=large)}
    useless = [name for name, valid in there.items() if name not in wanted or not valid]
    with connection.cursor() as cursor:
        for name in useless:
            cursor.execute(f'drop index concurrently if exists "{name}"')
        has_hnsw = _is_at_least(version(), 0, 5)
        missing = [name for name in wanted if not there.get(name)] if has_hnsw else []
        for name in missing:
            space = wanted[name]
            cursor.execute(
                f'create index concurrently "{name}" on federation_memoryentry '
                f"using hnsw ((embedding::vector({space.dimension})) {OPERATORS[space.metric][1]}) "
                f"where namespace_id = '{space.pk}' and embedding is not null and deleted_at is null"
            )
    return [*useless, *missing]
