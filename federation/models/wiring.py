"""How a federation was wired, version by version, and what the adaptive topology measured."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from uuid_utils.compat import uuid7

from federation.adapting import Reading as Verdict
from federation.models.federations import Federation
from federation.topology import FIXED


class TopologyVersion(models.Model):
    """One wiring: who changed what, and how many it linked. A trigger sees that no version is missing."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    federation = models.ForeignKey(Federation, on_delete=models.CASCADE, related_name="versions")
    version = models.PositiveIntegerField()
    shape = models.CharField(max_length=12)
    members = models.PositiveIntegerField()
    epoch = models.PositiveIntegerField()
    reason = models.CharField(max_length=300)
    # Of a change of shape by measurement: the windows that led to it.
    figures = models.JSONField(null=True, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["federation", "version"], name="one_wiring_per_version"),
            models.CheckConstraint(condition=Q(shape__in=FIXED), name="topology_version_shape"),
            models.CheckConstraint(condition=~Q(reason=""), name="topology_version_has_a_reason"),
        ]

    def __str__(self) -> str:
        return f"version {self.version}: {self.reason}"


class Reading(models.Model):
    """What one window of an adaptive federation saw, and what each shape would have cost (`adapting`)."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    federation = models.ForeignKey(Federation, on_delete=models.CASCADE, related_name="readings")
    ended_at = models.DateTimeField()
    shape = models.CharField(max_length=12)
    members = models.PositiveIntegerField()
    direct = models.PositiveIntegerField()
    relayed = models.PositiveIntegerField()
    broadcasts = models.PositiveIntegerField()
    handed = models.PositiveIntegerField()
    failures = models.PositiveIntegerField()
    costs = models.JSONField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["federation", "ended_at"], name="one_reading_per_window"),
            models.CheckConstraint(condition=Q(shape__in=FIXED), name="reading_shape"),
        ]

    def __str__(self) -> str:
        return f"window to {self.ended_at:%H:%M:%S}"

    @property
    def verdict(self) -> Verdict:
        signals = self.direct + self.broadcasts + self.handed
        return Verdict(ended_at=self.ended_at, shape=self.shape, signals=signals, costs=self.costs)
