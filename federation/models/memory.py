"""What agents remember together: namespaces of entries, each with a version, some with an embedding.

A key's versions rise with every change, also over its deletion and its expiry: a row that was deleted stays for a while
without a value, so that whoever read the old one cannot overwrite the new one by mistake.
"""

from __future__ import annotations

from datetime import datetime

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from federation.models.federations import Federation

METRICS = ("cosine", "l2", "inner_product")
# What pgvector's HNSW index takes.
MOST_DIMENSIONS = 2000


class MemoryNamespace(models.Model):
    """Entries that belong together. The first embedding fixes the dimension of all."""

    class Metric(models.TextChoices):
        COSINE = "cosine"
        L2 = "l2"
        INNER_PRODUCT = "inner_product"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    federation = models.ForeignKey(Federation, on_delete=models.CASCADE, related_name="memory")
    name = models.CharField(max_length=60)
    metric = models.CharField(max_length=13, choices=Metric.choices, default=Metric.COSINE)
    dimension = models.PositiveSmallIntegerField(null=True, blank=True)
    # Counted by whoever writes, under this row's lock: what the quotas are held against.
    entries = models.PositiveIntegerField(default=0)
    bytes = models.PositiveBigIntegerField(default=0)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["federation", "name"], name="one_namespace_per_name"),
            models.CheckConstraint(condition=Q(metric__in=METRICS), name="namespace_metric"),
            models.CheckConstraint(
                condition=Q(dimension=None) | Q(dimension__gte=1, dimension__lte=MOST_DIMENSIONS),
                name="namespace_dimension",
            ),
        ]
        indexes = [models.Index(fields=["federation", "-created_at", "-id"], name="namespaces_newest_first")]

    def __str__(self) -> str:
        return self.name


class MemoryEntryQuerySet(models.QuerySet["MemoryEntry"]):
    def present(self, now: datetime) -> MemoryEntryQuerySet:
        """Neither deleted nor expired."""
        return self.filter(deleted_at=None).filter(Q(expires_at=None) | Q(expires_at__gt=now))

    def expired(self, now: datetime) -> MemoryEntryQuerySet:
        return self.filter(deleted_at=None, expires_at__lte=now)


class MemoryEntry(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    namespace = models.ForeignKey(MemoryNamespace, on_delete=models.CASCADE, related_name="rows")
    key = models.CharField(max_length=200, db_collation="C")
    version = models.PositiveIntegerField(default=1)
    value = models.JSONField(null=True, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    embedding = ArrayField(models.FloatField(), null=True, blank=True)
    # The namespace's, as a foreign key over both columns says; an embedding has so many numbers.
    dimension = models.PositiveSmallIntegerField(null=True, blank=True)
    bytes = models.PositiveIntegerField(default=0)
    written_by = models.CharField(max_length=120, blank=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    deleted_at = models.DateTimeField(null=True, blank=True)

    objects = MemoryEntryQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["namespace", "key"], name="one_entry_per_key_of_memory"),
            models.CheckConstraint(
                condition=Q(embedding=None, dimension=None) | Q(embedding__len=F("dimension")),
                name="an_embedding_has_its_dimension",
            ),
            models.CheckConstraint(
                condition=Q(deleted_at=None) | Q(value=None, embedding=None, bytes=0), name="a_deleted_entry_is_empty"
            ),
        ]
        indexes = [
            models.Index(fields=["namespace", "-created_at", "-id"], name="memory_newest_first"),
            models.Index(
                fields=["expires_at"],
                condition=Q(expires_at__isnull=False, deleted_at=None),
                name="memory_by_expiry",
            ),
            models.Index(fields=["deleted_at"], condition=Q(deleted_at__isnull=False), name="memory_deleted"),
            GinIndex(fields=["metadata"], opclasses=["jsonb_path_ops"], name="memory_by_metadata"),
        ]

    def __str__(self) -> str:
        return self.key

    def is_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now


class MemoryVersion(models.Model):
    """An entry as it was before: the last few."""

    entry = models.ForeignKey(MemoryEntry, on_delete=models.CASCADE, related_name="versions")
    version = models.PositiveIntegerField()
    value = models.JSONField(null=True, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    written_by = models.CharField(max_length=120, blank=True)
    written_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["entry", "version"], name="one_row_per_version")]

    def __str__(self) -> str:
        return f"version {self.version} of {self.entry_id}"
