"""Leader leases with fencing epochs: one holder at a time, and a late one can be told from the present one.

take -> epoch -> (take again = renew) -> release          every new holder gets a larger epoch
who let the lease lapse and takes it again is a new holder too
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import connection

from scaling.models import Lease


class StaleEpoch(Exception):
    """Raised by `confirm` for a holder whose lease has passed to another or has lapsed."""

    code = "stale_epoch"

    def __init__(self, name: str, epoch: int) -> None:
        self.epoch = epoch
        super().__init__(f"The lease {name} has moved on; its epoch is now {epoch}.")

    @property
    def extras(self) -> dict[str, int]:
        return {"epoch": self.epoch}


# One statement decides, so two takers cannot both win. A lapsed lease gets a new epoch even for its old holder.
_TAKE = """
insert into scaling_lease as lease (name, holder, epoch, expires_at) values (%(name)s, %(holder)s, 1, %(until)s)
on conflict (name) do update set
    holder = excluded.holder,
    epoch = lease.epoch + case when lease.holder is distinct from excluded.holder or lease.expires_at <= %(now)s
                               then 1 else 0 end,
    expires_at = excluded.expires_at
where lease.holder = excluded.holder or lease.expires_at <= %(now)s
returning epoch
"""


def take(*, name: str, holder: str, ttl_seconds: float, now: datetime) -> int | None:
    """The epoch under which `holder` leads until now + ttl, or None while another does. Again: renews."""
    until = now + timedelta(seconds=ttl_seconds)
    with connection.cursor() as cursor:
        cursor.execute(_TAKE, {"name": name, "holder": holder, "until": until, "now": now})
        row = cursor.fetchone()
    return int(row[0]) if row else None


def limit_idleness(*, seconds: float) -> None:
    """This will have the database end the transaction if its process freezes in it; a frozen lock helps nobody."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select set_config('idle_in_transaction_session_timeout', %s, true)", [f"{int(seconds * 1000)}ms"]
        )


def confirm(*, name: str, epoch: int, now: datetime) -> None:
    """This will hold the lease still for the rest of the transaction, so that nothing stale is written."""
    lease = Lease.objects.select_for_update().get(name=name)
    if lease.epoch != epoch or lease.expires_at <= now:
        raise StaleEpoch(name, lease.epoch)


def release(*, name: str, epoch: int, now: datetime) -> bool:
    """Let the next one in at once; False when the lease had moved on."""
    return bool(Lease.objects.filter(name=name, epoch=epoch, expires_at__gt=now).update(expires_at=now))
