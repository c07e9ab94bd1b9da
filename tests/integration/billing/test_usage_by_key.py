"""Which API key had something used: charged at once, in a batch, or from a hold; and how it is asked for and shown."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.urls import reverse
from django.utils import timezone

from billing import batches, budgets, keys, ledger, metering, reports
from billing.models import Account, ApiKey, UsageRecord
from tests import factories
from tests import ledger_cast as cast
from tests.ledger_cast import NOON

pytestmark = pytest.mark.django_db


@pytest.fixture
def account():
    yield (made := cast.make_account(1000))
    assert made.pk
    cast.assert_books_are_right()


@pytest.fixture
def key(account: Account) -> ApiKey:
    return factories.make_key(account, name="robot")[0]


def at_once(account, key):
    cast.use(account, "mcp_call", 1, api_key=key)


def settled(account, key):
    metering.settle(
        account_id=account.pk, meter="data_byte", quantity=Decimal(10), occurred_at=NOON, now=NOON, key="s", source="t",
        api_key=key,
    )  # fmt: skip


def in_a_batch(account, key):
    event = metering.Event("bot", "b", "mcp_call", Decimal(1), NOON, "", {})
    batches.record_many(account_id=account.pk, events=[batches.Given(event, True)], now=NOON, api_key=key)


def in_a_batch_that_a_budget_watches(account, key):
    limit = {"period": "month", "limit_ucr": 10**12, "action": "notify", "now": NOON}
    budgets.create(account=account, scope="account", **limit)
    in_a_batch(account, key)


def from_a_hold(account, key, now=NOON):
    held = cast.hold(account, 5, api_key=key)
    record = metering.capture(
        hold_key=held.key, meter="mcp_call", quantity=Decimal(1), occurred_at=now, now=now, key="h", source="t"
    )
    assert str(record.api_key or "") == key  # also as it is answered


def from_a_hold_that_expired(account, key):
    from_a_hold(account, key, now=NOON + timedelta(hours=2))


WAYS = [at_once, settled, in_a_batch, in_a_batch_that_a_budget_watches, from_a_hold, from_a_hold_that_expired]


@pytest.mark.parametrize("way", WAYS)
def test_a_record_keeps_the_key_that_caused_it(account, key, way):
    way(account, str(key.pk))

    assert UsageRecord.objects.get(account=account).api_key == key.pk


@pytest.mark.parametrize("way", WAYS)
def test_what_no_key_caused_has_none(account, way):
    way(account, "")

    assert UsageRecord.objects.get(account=account).api_key is None


def test_a_hold_that_is_not_there_has_no_key(account):
    with pytest.raises(ledger.UnknownHold):
        ledger.key_of(hold_key="nothing")


def test_the_page_shows_keys_by_name_also_those_that_ended(client, account):
    now = timezone.now()
    alive, revoked, deleted = (factories.make_key(account, name=name)[0] for name in ("robot", "old robot", "gone"))
    staff = factories.make_key(cast.make_account(0), name="secret operation", is_staff=True)[0]
    for number, each in enumerate((alive, revoked, deleted, staff), 1):
        cast.use(account, "mcp_call", number, now=now, api_key=str(each.pk))
    charged = cast.use(account, "mcp_call", 1, now=now, api_key=str(alive.pk))
    keys.revoke(key=revoked, now=now)
    deleted_id = str(deleted.pk)
    deleted.delete()
    client.force_login(account.memberships.get().user)

    answer = client.get(reverse("billing:usage", args=[account]))

    shown = {row["name"]: row["cost_ucr"] // cast.UCR for row in answer.context["keys"]}
    names = {"robot": 2, "old robot (revoked)": 2, f"Deleted key …{deleted_id[-4:]}": 3, "A key of staff": 4}
    assert shown == names
    only = client.get(reverse("billing:usage", args=[account]), {"api_key": str(revoked.pk)})
    assert only.context["total_ucr"] == 2 * cast.UCR
    assert client.get(reverse("billing:usage", args=[account]), {"api_key": str(staff.pk)}).status_code == 422
    page = client.get(reverse("billing:transaction", args=[account, charged.transaction_id])).content.decode()
    assert "<dt>API key</dt><dd>robot</dd>" in page


def test_keys_of_one_name_are_told_apart_by_what_they_end_in(account):
    one, two, other = (factories.make_key(account, name=name)[0] for name in ("robot", "robot", "spider"))

    labels = reports.labels_of_keys(account_id=account.pk, keys=[one.pk, two.pk, other.pk])

    assert labels == {one.pk: f"robot ({one.hint})", two.pk: f"robot ({two.hint})", other.pk: "spider"}
