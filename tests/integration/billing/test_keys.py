import pytest
from django.utils import timezone

from billing import keys
from billing.models import Account
from tests import factories

pytestmark = pytest.mark.django_db


def test_a_key_sees_its_own_account_only():
    account = factories.make_account()
    factories.make_account(factories.make_user("Charlie"))
    _, secret = factories.make_key(account)

    principal = keys.authenticate(secret, now=timezone.now())

    assert list(Account.objects.visible_to(principal)) == [account]


def test_a_revoked_key_stands_for_nobody():
    key, secret = factories.make_key(factories.make_account())

    keys.revoke(key=key, now=timezone.now())

    assert keys.authenticate(secret, now=timezone.now()) is None


def test_the_secret_is_not_stored():
    key, secret = factories.make_key(factories.make_account())

    assert secret not in str(vars(key))


def test_write_implies_read_of_its_area():
    _, secret = factories.make_key(factories.make_account(), scopes=("billing:write",))

    principal = keys.authenticate(secret, now=timezone.now())

    assert principal is not None
    assert principal.has_scope("billing:read")
    assert not principal.has_scope("federation:read")


def test_a_key_cannot_give_scopes_it_does_not_have():
    account = factories.make_account()
    _, secret = factories.make_key(account, scopes=("billing:read", "account:write"))
    principal = keys.authenticate(secret, now=timezone.now())

    with pytest.raises(keys.ScopeBeyondOwn):
        keys.create(account=account, name="more", scopes=["sandboxes:write"], by=principal, now=timezone.now())
