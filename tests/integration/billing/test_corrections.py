"""Credits moved between accounts, and transactions taken back: by whom, between which, and what stays."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from uuid_utils.compat import uuid7

from billing import corrections, keys, ledger, roles
from billing.models import Account, Membership, Role, Transaction
from tests import factories
from tests import ledger_cast as cast
from tests.ledger_cast import UCR

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _the_books_stay_right(db: None) -> Any:
    yield
    cast.assert_books_are_right()


@pytest.fixture
def account() -> Account:
    return cast.make_account(100)


@pytest.fixture
def alice(account: Account) -> Any:
    return account.memberships.get().user


@pytest.fixture
def second(alice: Any) -> Account:
    other = cast.make_account(0, name="Second")
    Membership.objects.create(account=other, user=alice, role=Role.OWNER)
    return other


def move(account: Account, to: Account | Any, by: Any, credits: int = 30, **changes: Any) -> Transaction:
    said = {"reason": "Shared costs", "key": "k", "now": timezone.now(), "actor": "user:1"} | changes
    return corrections.move(account=account, to=getattr(to, "pk", to), amount_ucr=credits * UCR, by=by, **said)


def test_who_owns_both_moves_credits_once(account, second, alice):
    first, again = move(account, second, alice), move(account, second, alice)

    assert (first, first.actor, first.description) == (again, "user:1", "Shared costs")
    assert [cast.available(each, timezone.now()) for each in (account, second)] == [70, 30]
    with pytest.raises(ledger.KeyReused):
        move(account, second, alice, 31)


@pytest.mark.parametrize("role", [None, Role.VIEWER, Role.OPERATOR])
@pytest.mark.parametrize("side", ["sender", "receiver"])
def test_who_owns_one_of_them_only_is_refused_and_hears_nothing_of_the_other(account, second, alice, role, side):
    lost = account if side == "sender" else second
    lost.memberships.filter(user=alice).delete()
    if role:
        Membership.objects.create(account=lost, user=alice, role=role)

    with pytest.raises(roles.OwnerRequired if side == "sender" else corrections.UnknownReceiver) as refused:
        move(account, second, alice)

    if side == "receiver":
        with pytest.raises(corrections.UnknownReceiver) as nobody:
            move(account, uuid7(), alice)
        assert str(nobody.value) == str(refused.value)
    assert not corrections.receivers(alice, account).exists()


def test_a_key_moves_what_its_maker_owns_still(account, second, alice):
    made = {"account": account, "name": "k", "scopes": ["billing:write"], "now": timezone.now()}
    by = keys.KeyPrincipal(keys.create(**made, by=alice)[0])
    move(account, second, by)
    with pytest.raises(roles.OwnerRequired):
        move(second, account, keys.KeyPrincipal(keys.create(**made, by=None)[0]), key="other")

    Membership.objects.filter(account=second, user=alice).update(role=Role.OPERATOR)
    with pytest.raises(corrections.UnknownReceiver):
        move(account, second, by, key="other")
    alice.is_staff = True  # a customer's key stays a customer's
    alice.save()
    with pytest.raises(corrections.UnknownReceiver):
        move(account, second, by, key="other")
    alice.is_active = False
    alice.save()
    with pytest.raises(roles.OwnerRequired):
        move(account, second, by, key="other")


def test_staff_move_between_any(account, second):
    stella = factories.make_user(is_staff=True)

    assert move(account, second, stella)
    with pytest.raises(corrections.UnknownReceiver):
        move(account, uuid7(), stella, key="other")


def test_what_expires_is_held_or_overdrawn_stays(account, second, alice):
    now = timezone.now()
    cast.give(account, 50, expires_at=now + timedelta(days=1), now=now)
    ledger.set_overdraft(account_id=account.pk, overdraft_ucr=500 * UCR)
    with pytest.raises(ledger.InsufficientCredits, match="need 101, have 100"):
        move(account, second, alice, 101)
    cast.hold(account, 80, expires_at=now + timedelta(hours=1), now=now)
    with pytest.raises(ledger.InsufficientCredits, match="need 71, have 70"):
        move(account, second, alice, 71)

    move(account, second, alice, 70)

    account.wallet.refresh_from_db()
    assert (ledger.movable_ucr(account.wallet), cast.available(account, now)) == (0, 500)
    assert cast.available(second, now + timedelta(days=9)) == 70


def test_a_closed_account_gets_nothing_and_a_suspended_one_gives_nothing(account, second, alice):
    Account.objects.filter(pk=second.pk).update(status="closed")
    with pytest.raises(ledger.AccountNotActive, match="to move credits to is closed"):
        move(account, second, alice)
    Account.objects.filter(pk=second.pk).update(status="suspended")
    assert move(account, second, alice)
    with pytest.raises(ledger.AccountNotActive):
        move(second, account, alice)


def test_what_was_moved_is_not_taken_back_by_hand(account, second, alice):
    moved = move(account, second, alice)

    with pytest.raises(ledger.NotReversible, match="a transfer"):
        corrections.take_back(moved, key="r", reason="wrong", now=timezone.now(), actor="user:1")


def test_the_page_offers_owners_their_other_accounts_and_moves_once(account, second, alice, client: Client):
    client.force_login(alice)
    page = reverse("billing:credit-transfer", args=[account])
    assert page in client.get(reverse("billing:credits", args=[account])).content.decode()
    shown = client.get(page).content.decode()
    assert ("Second" in shown, "100 credits</span> can be moved" in shown or "can be moved" in shown) == (True, True)
    form = {"to": second.pk, "credits": "30", "reason": "Shared", "key": uuid7()}

    for _ in range(2):
        assert client.post(page, form).headers["location"] == reverse("billing:credits", args=[account])

    moved = Transaction.objects.get(kind="transfer")
    assert (moved.actor, moved.description, cast.available(second, timezone.now())) == (
        f"user:{alice.pk}",
        "Shared",
        30,
    )


@pytest.mark.parametrize(
    ("change", "status", "sentence"),
    [
        ({"credits": "1000"}, 422, "need 1000, have 100"),
        ({"credits": "0"}, 422, ""),
        ({"reason": ""}, 422, "This field is required."),
        ({"to": "stranger"}, 422, "Select a valid choice"),
        ({"to": "closed"}, 422, "Select a valid choice"),
    ],
)
def test_the_page_says_what_is_wrong(account, second, alice, client: Client, change, status, sentence):
    client.force_login(alice)
    stranger = cast.make_account(0)
    if change.get("to") == "closed":
        Account.objects.filter(pk=second.pk).update(status="closed")
        third = cast.make_account(0)
        Membership.objects.create(account=third, user=alice, role=Role.OWNER)
    form = {"to": second.pk, "credits": "30", "reason": "Shared", "key": uuid7()} | change
    form["to"] = {"stranger": stranger.pk, "closed": second.pk}.get(form["to"], form["to"])

    answer = client.post(reverse("billing:credit-transfer", args=[account]), form)

    assert (answer.status_code, sentence in answer.content.decode()) == (status, True)
    assert not Transaction.objects.filter(kind="transfer").exists()


def test_who_owns_one_account_is_told_so_and_who_owns_none_of_it_is_refused(account, alice, client: Client):
    page = reverse("billing:credit-transfer", args=[account])
    operator = factories.make_user()
    Membership.objects.create(account=account, user=operator, role=Role.OPERATOR)
    client.force_login(operator)
    assert client.get(page).status_code == 403
    client.force_login(alice)

    assert "This is the only one." in client.get(page).content.decode()
    assert page not in client.get(reverse("billing:credits", args=[account])).content.decode()


def test_staff_name_any_account_by_its_short_name(account, second, client: Client):
    client.force_login(factories.make_user(is_staff=True))
    page = reverse("billing:credit-transfer", args=[account])
    form = {"to": second.slug, "credits": "30", "reason": "Merged", "key": uuid7()}
    assert "<option" not in client.get(page).content.decode()
    assert client.post(page, form | {"to": "nobody"}).status_code == 422

    client.post(page, form)

    assert cast.available(second, timezone.now()) == 30
