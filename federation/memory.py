"""What agents remember together: written and read by key, with versions, for as long as wanted.

A write locks its namespace's row, so that counts, versions and the dimension are those that are written.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Count, F, Sum

from federation import dispatch, live
from federation.models import Federation, MemoryEntry, MemoryNamespace, MemoryVersion
from federation.models.memory import MOST_DIMENSIONS

MOST_NAMESPACES = 100
MOST_ENTRIES = 100_000
MOST_BYTES = 64 * 1024 * 1024
MOST_VALUE_BYTES = 256 * 1024
MOST_VERSIONS = 10
# How long a deleted key's version is remembered.
KEPT = timedelta(hours=24)
ROUND = 500


class NotRemembered(Exception):
    """Raised for a namespace, key or version that is not there (any more)."""

    code = "not_found"


class StaleMemory(Exception):
    """Raised when a change names a version that is not the present one."""

    code = "conflict"

    def __init__(self, present: int) -> None:
        super().__init__(f"The present version is {present}. Read it again." if present else "There is no such entry.")
        self.extras = {"state": f"version {present}" if present else "absent"}


class MemoryFull(Exception):
    """Raised when a quota is used up."""

    code = "resource_limit_exceeded"
    retry_after = 60

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"{what} {limit:,}. Delete something first.")
        self.extras = {"limit": limit}


class Unfit(Exception):
    """Raised for an embedding or a setting that does not fit the namespace."""

    code = "validation_error"

    def __init__(self, name: str, sentence: str) -> None:
        super().__init__(sentence)
        self.extras = {"errors": {name: [sentence]}}


@dataclass(frozen=True, slots=True)
class Item:
    """What is to be remembered under a key."""

    value: Any = None
    metadata: dict[str, Any] = field(default_factory=dict)
    embedding: list[float] | None = None
    ttl_seconds: int | None = None

    @property
    def bytes(self) -> int:
        texts = len(json.dumps(self.value)) + len(json.dumps(self.metadata))
        return texts + 8 * len(self.embedding or ())


# Namespaces


def namespace(*, federation: Federation, name: str) -> MemoryNamespace:
    found = MemoryNamespace.objects.filter(federation=federation, name=name).first()
    if found is None:
        raise NotRemembered(f"There is no namespace {name} in this federation's memory.")
    return found


@transaction.atomic
def configure(
    *, federation: Federation, name: str, now: datetime, metric: str | None = None, dimension: int | None = None
) -> MemoryNamespace:
    """Make a namespace, or settle what an existing one has not settled yet. Raises Unfit, MemoryFull."""
    space = _locked(federation, name, now)
    if metric and metric != space.metric and space.dimension is not None:
        raise Unfit("metric", f"The namespace measures by {space.metric} already.")
    space.metric = metric or space.metric
    _fix_dimension(space, "dimension", dimension)
    space.save(update_fields=["metric"])
    return space


@transaction.atomic
def forget_namespace(*, federation: Federation, name: str) -> None:
    """Delete everything in it; nothing of it is remembered."""
    namespace(federation=federation, name=name).delete()
    live.memory_changed(federation)


def _locked(federation: Federation, name: str, now: datetime) -> MemoryNamespace:
    rows = MemoryNamespace.objects.select_for_update(no_key=True).filter(federation=federation, name=name)
    found = rows.first()
    if found is not None:
        return found
    dispatch.lock(federation.pk)
    if MemoryNamespace.objects.filter(federation=federation).exclude(name=name).count() >= MOST_NAMESPACES:
        raise MemoryFull("The memory of a federation has at most this many namespaces:", MOST_NAMESPACES)
    MemoryNamespace.objects.get_or_create(federation=federation, name=name, defaults={"created_at": now})
    return rows.get()


def _fix_dimension(space: MemoryNamespace, name: str, dimension: int | None) -> None:
    """The first embedding says how many numbers all have."""
    if dimension is None or dimension == space.dimension:
        return
    if space.dimension is not None:
        raise Unfit(name, f"The embeddings of this namespace have {space.dimension} numbers, not {dimension}.")
    if dimension > MOST_DIMENSIONS:
        raise Unfit(name, f"An embedding has at most {MOST_DIMENSIONS} numbers.")
    space.dimension = dimension
    space.save(update_fields=["dimension"])


# Entries


def read(*, space: MemoryNamespace, key: str, now: datetime) -> MemoryEntry:
    found = MemoryEntry.objects.present(now).filter(namespace=space, key=key).first()
    if found is None:
        raise NotRemembered(f"Nothing is remembered under {key}.")
    return found


def read_version(*, space: MemoryNamespace, key: str, version: int, now: datetime) -> MemoryEntry:
    """The entry as it was in that version, while that is kept."""
    entry = read(space=space, key=key, now=now)
    if version == entry.version:
        return entry
    before = MemoryVersion.objects.filter(entry=entry, version=version).first()
    if before is None:
        raise NotRemembered(f"Version {version} of {key} is not kept.")
    entry.version, entry.value, entry.metadata = before.version, before.value, before.metadata
    entry.written_by, entry.updated_at, entry.embedding = before.written_by, before.written_at, None
    return entry


@transaction.atomic
def write(
    *, federation: Federation, name: str, key: str, item: Item, by: Any, now: datetime, expected: int | None = None
) -> tuple[MemoryEntry, bool]:
    """Remember it; also whether the key is new. With `expected` only over that version (0: only if there is none).

    Raises StaleMemory, MemoryFull, Unfit.
    """
    space = _locked(federation, name, now)
    entry = MemoryEntry.objects.filter(namespace=space, key=key).first()
    is_present = _check(entry, expected, now)
    _fix_dimension(space, "embedding", len(item.embedding) if item.embedding is not None else None)
    _check_room(space, entry, is_present, item)
    before = entry.bytes if entry else 0
    counted = entry is not None and entry.deleted_at is None
    if entry is None:
        entry = MemoryEntry(namespace=space, key=key, version=0)
    elif is_present:
        _keep(entry)
    else:
        entry.versions.all().delete()
    entry.created_at = entry.created_at if is_present else now
    _fill(entry, space, item, by, now)
    entry.save()
    space.entries += 0 if counted else 1
    space.bytes += item.bytes - before
    space.save(update_fields=["entries", "bytes"])
    live.memory_changed(federation)
    return entry, not is_present


def _check(entry: MemoryEntry | None, expected: int | None, now: datetime) -> bool:
    """Whether it is there now, as the caller believes."""
    is_present = entry is not None and entry.deleted_at is None and not entry.is_expired(now)
    present = entry.version if entry is not None and is_present else 0
    if expected is not None and expected != present:
        raise StaleMemory(present)
    return is_present


def _check_room(space: MemoryNamespace, entry: MemoryEntry | None, is_present: bool, item: Item) -> None:
    if not is_present and space.entries >= MOST_ENTRIES and (entry is None or entry.deleted_at is not None):
        raise MemoryFull("A namespace has at most this many entries:", MOST_ENTRIES)
    if space.bytes + item.bytes - (entry.bytes if entry else 0) > MOST_BYTES:
        raise MemoryFull("A namespace holds at most this many bytes:", MOST_BYTES)


def _keep(entry: MemoryEntry) -> None:
    """The present version goes into the history, the oldest out of it."""
    MemoryVersion.objects.create(
        entry=entry,
        version=entry.version,
        value=entry.value,
        metadata=entry.metadata,
        written_by=entry.written_by,
        written_at=entry.updated_at,
    )
    entry.versions.filter(version__lte=entry.version - MOST_VERSIONS).delete()


def _fill(entry: MemoryEntry, space: MemoryNamespace, item: Item, by: Any, now: datetime) -> None:
    entry.version += 1
    entry.value, entry.metadata, entry.embedding = item.value, item.metadata, item.embedding
    entry.dimension = None if item.embedding is None else space.dimension
    entry.bytes, entry.written_by, entry.updated_at, entry.deleted_at = item.bytes, str(by or "")[:120], now, None
    entry.expires_at = now + timedelta(seconds=item.ttl_seconds) if item.ttl_seconds else None


@transaction.atomic
def forget(*, federation: Federation, name: str, key: str, now: datetime, expected: int | None = None) -> None:
    """Delete one entry with its history. Raises NotRemembered, StaleMemory."""
    space = MemoryNamespace.objects.select_for_update(no_key=True).filter(federation=federation, name=name).first()
    entry = MemoryEntry.objects.filter(namespace=space, key=key).first() if space else None
    if not _check(entry, expected, now) or entry is None or space is None:
        raise NotRemembered(f"Nothing is remembered under {key}.")
    _empty(space, [entry], now)
    live.memory_changed(federation)


def _empty(space: MemoryNamespace, entries: list[MemoryEntry], now: datetime) -> None:
    """What remains of an entry for a while: its key and version."""
    ids = [entry.pk for entry in entries]
    MemoryVersion.objects.filter(entry__in=ids).delete()
    MemoryEntry.objects.filter(pk__in=ids).update(
        value=None,
        metadata={},
        embedding=None,
        dimension=None,
        bytes=0,
        deleted_at=now,
        expires_at=None,
        version=F("version") + 1,
    )
    space.entries -= len(entries)
    space.bytes -= sum(entry.bytes for entry in entries)
    space.save(update_fields=["entries", "bytes"])


def sweep(*, now: datetime) -> int:
    """Empty what has expired, and forget what was deleted long ago; returns how many rows."""
    due = MemoryEntry.objects.expired(now).order_by("expires_at").values_list("namespace", flat=True)
    done = sum(_expire(pk, now) for pk in dict.fromkeys(due[:ROUND]))
    old = MemoryEntry.objects.filter(deleted_at__lte=now - KEPT).values("pk")[:ROUND]
    return done + MemoryEntry.objects.filter(pk__in=old).delete()[0]


@transaction.atomic
def _expire(namespace_id: Any, now: datetime) -> int:
    rows = MemoryNamespace.objects.select_for_update(no_key=True, of=("self",)).select_related("federation")
    found = rows.filter(pk=namespace_id).first()
    if found is None:
        return 0
    expired = MemoryEntry.objects.expired(now).filter(namespace=found).only("pk", "bytes")
    entries = list(expired.order_by("expires_at", "pk")[:ROUND])
    _empty(found, entries, now)
    live.memory_changed(found.federation)
    return len(entries)


def usage(federation: Federation) -> dict[str, int]:
    """What all its namespaces hold together."""
    found = MemoryNamespace.objects.filter(federation=federation).aggregate(
        namespaces=Count("pk"), entries=Sum("entries"), bytes=Sum("bytes")
    )
    return {name: value or 0 for name, value in found.items()}
