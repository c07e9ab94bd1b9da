"""Leader leases: one holder, growing epochs, fencing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from scaling import leases
from scaling.models import Lease

pytestmark = pytest.mark.django_db
NOW = timezone.now()


def take(holder: str, at: float = 0) -> int | None:
    return leases.take(name="x", holder=holder, ttl_seconds=3, now=NOW + timedelta(seconds=at))


def test_the_first_taker_leads_and_others_do_not() -> None:
    assert take("a") == 1
    assert take("b", 1) is None


def test_taking_again_renews_under_the_same_epoch() -> None:
    take("a")

    assert take("a", 2) == 1
    assert take("b", 4) is None


def test_a_lapsed_lease_goes_to_the_next_with_a_larger_epoch() -> None:
    take("a")

    assert take("b", 3) == 2


def test_who_let_it_lapse_is_a_new_holder_too() -> None:
    take("a")

    assert take("a", 3) == 2


def test_releasing_lets_the_next_in_at_once() -> None:
    epoch = take("a")

    assert leases.release(name="x", epoch=epoch or 0, now=NOW)
    assert take("b") == 2


def test_a_late_release_does_not_end_the_lease_of_another() -> None:
    take("a")
    take("b", 3)

    assert not leases.release(name="x", epoch=1, now=NOW + timedelta(seconds=3))
    assert take("c", 4) is None


def test_confirming_under_a_stale_epoch_is_refused_with_the_present_one() -> None:
    take("a")
    take("b", 3)

    with pytest.raises(leases.StaleEpoch) as refused:
        leases.confirm(name="x", epoch=1, now=NOW + timedelta(seconds=3))

    assert refused.value.extras == {"epoch": 2}


def test_confirming_a_lapsed_lease_is_refused_even_if_nobody_took_it() -> None:
    take("a")

    with pytest.raises(leases.StaleEpoch):
        leases.confirm(name="x", epoch=1, now=NOW + timedelta(seconds=3))


@pytest.mark.django_db(transaction=True)
def test_of_many_takers_at_once_one_leads() -> None:
    def try_it(holder: int) -> int | None:
        try:
            return take(str(holder))
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        epochs = [epoch for epoch in pool.map(try_it, range(6)) if epoch]

    assert epochs == [1]
    assert Lease.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_while_a_leader_writes_no_other_can_take_over() -> None:
    take("a")

    def takes_over() -> int | None:
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("set local lock_timeout = '100ms'")
                return take("b", 10)
        except Exception as waited:  # noqa: BLE001 - the lock's timeout is what is expected
            return None if "lock timeout" in str(waited) else -1
        finally:
            connection.close()

    with transaction.atomic(), ThreadPoolExecutor(1) as pool:
        leases.confirm(name="x", epoch=1, now=NOW)
        during = pool.submit(takes_over).result()

    assert during is None
