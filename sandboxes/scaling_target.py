"""Sandbox pools as something the auto-scaler can make larger and smaller.

busy is the share of the allowed size that runs, queue how many wait, seconds_each what recent ones took.
"""

from __future__ import annotations

from datetime import datetime

from sandboxes import pools
from sandboxes.models import Pool
from scaling.policy import Load
from scaling.targets import UnknownTarget

TYPE = pools.SCALING_TYPE


class PoolTarget:
    label = "Sandbox pool"

    def choices(self) -> list[tuple[str, str]]:
        rows = Pool.objects.select_related("account").order_by("created_at", "pk")
        return [(str(pool.pk), _name(pool)) for pool in rows]

    def load(self, target_id: str, *, now: datetime) -> Load:
        # A pool has no CPU or memory of its own; its machines' readings are their health's.
        work = pools.work(_find(target_id), now=now)
        return Load(
            observed_at=now,
            busy=work.busy,
            queue=work.queued,
            seconds_each=work.seconds_each,
            needed=frozenset({"busy", "queue"}),
        )

    def current(self, target_id: str) -> int:
        return pools.allowed(_find(target_id))

    def resize(self, target_id: str, *, to: int, now: datetime) -> None:
        pools.resize(pool=_find(target_id), to=to)

    def drain(self, target_id: str, *, to: int, now: datetime) -> None:
        """What runs beyond the new size goes on; no other takes its place when it ends."""
        pools.resize(pool=_find(target_id), to=to)


def _find(target_id: str) -> Pool:
    pool: Pool | None = Pool.objects.with_id(target_id)
    if pool is None:
        raise UnknownTarget(f"There is no pool “{target_id}”; it was closed.")
    return pool


def _name(pool: Pool) -> str:
    return f"{pool.name} of {pool.account.name}" if pool.account else pool.name
