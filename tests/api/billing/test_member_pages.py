from __future__ import annotations

import json

import pytest
from django.urls import reverse

from billing.models import ApiKey, Role
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def account():
    return factories.make_account()


@pytest.fixture
def alice(client, account):
    client.force_login(account.memberships.get().user)
    return client


def test_an_owner_invites_from_the_page(alice, account):
    response = alice.post(reverse("billing:members", args=[account]), {"email": "new@example.com", "role": "viewer"})

    assert response.status_code == 302
    assert "new@example.com" in alice.get(response.url).content.decode()


def test_a_member_cannot_be_invited(alice, account):
    bob = factories.make_operator(account)

    response = alice.post(reverse("billing:members", args=[account]), {"email": bob.email, "role": "viewer"})

    assert response.status_code == 422
    assert "is a member already" in response.content.decode()


def test_roles_change_on_the_page(alice, account):
    membership = account.memberships.get(user=factories.make_operator(account))

    alice.post(reverse("billing:member-role", args=[account, membership.pk]), {"role": "viewer"})

    membership.refresh_from_db()
    assert membership.role == Role.VIEWER


def test_the_last_owner_is_told_with_409(alice, account):
    membership = account.memberships.get()
    url = reverse("billing:member-remove", args=[account, membership.pk])

    page = alice.post(url)
    toast = alice.post(url, headers={"HX-Request": "true"})

    assert page.status_code == toast.status_code == 409
    assert "An account needs an owner" in page.content.decode()
    assert "needs an owner" in json.loads(toast["HX-Trigger"])["toast"]["text"]


def test_everybody_may_leave(client, account):
    bob = factories.make_operator(account)
    client.force_login(bob)

    client.post(reverse("billing:member-remove", args=[account, account.memberships.get(user=bob).pk]))

    assert not account.memberships.filter(user=bob).exists()


@pytest.mark.parametrize("make", [factories.make_operator, factories.make_viewer])
def test_others_see_no_forms_and_may_not_post(client, account, make):
    client.force_login(make(account))
    member, key = account.memberships.first(), factories.make_key(account)[0]

    for name, args in [
        ("members", []),
        ("api-keys", []),
        ("account", []),
        ("member-role", [member.pk]),
        ("api-key-revoke", [key.pk]),
    ]:
        url = reverse(f"billing:{name}", args=[account, *args])
        assert client.post(url, {"role": "owner"}).status_code == 403
        if not args:
            assert 'class="form' not in client.get(url).content.decode()


def test_a_key_is_shown_once_on_the_page(alice, account):
    url = reverse("billing:api-keys", args=[account])

    page = alice.post(url, {"name": "bot", "scopes": ["billing:read"], "expires": "30"}).content.decode()

    key = ApiKey.objects.get()
    assert page.count("ntd_") > alice.get(url).content.decode().count("ntd_")
    assert (key.expires_at - key.created_at).days == 30


def test_a_key_is_revoked_on_the_page(alice, account):
    key, _ = factories.make_key(account)

    alice.post(reverse("billing:api-key-revoke", args=[account, key.pk]))

    key.refresh_from_db()
    assert key.revoked_at is not None


def test_the_account_s_name_changes_and_its_address_stays(alice, account):
    url = reverse("billing:account", args=[account])

    assert alice.post(url, {"name": "Acme II", "time_zone": "UTC", "billing_period": "monthly"}).status_code == 302
    assert alice.post(url, {"name": "", "time_zone": "Mars/Olympus"}).status_code == 422

    slug = account.slug
    account.refresh_from_db()
    assert (account.name, account.slug, account.version) == ("Acme II", slug, 2)
