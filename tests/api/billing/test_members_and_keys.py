from __future__ import annotations

from datetime import timedelta

import pytest
from django.core import mail
from django.utils import timezone
from rest_framework.test import APIClient

from billing.models import ApiKey, Invitation, Membership, Role
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def account():
    return factories.make_account()


@pytest.fixture
def alice(account):
    return signed_in(account.memberships.get().user)


def signed_in(user):
    client = APIClient()
    client.force_login(user)
    return client


def with_key(account, **changes):
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {factories.make_key(account, **changes)[1]}")
    return client


def test_a_new_key_works_and_is_shown_once(account, alice):
    made = alice.post("/api/v1/api-keys", {"name": "bot", "scopes": ["account:read"]}, format="json").json()
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {made['key']}")

    shown = client.get(f"/api/v1/api-keys/{made['id']}").json()

    assert made["key"].startswith("ntd_")
    assert "key" not in shown
    assert shown["state"] == "active"


def test_a_revoked_key_is_401_at_once_and_stays_listed(account, alice):
    key, secret = factories.make_key(account)

    assert alice.delete(f"/api/v1/api-keys/{key.pk}").status_code == 204

    assert APIClient().get("/api/v1/members", HTTP_AUTHORIZATION=f"Bearer {secret}").status_code == 401
    assert [row["id"] for row in alice.get("/api/v1/api-keys", {"state": "revoked"}).json()["results"]] == [str(key.pk)]
    assert alice.get("/api/v1/api-keys", {"state": "active"}).json()["results"] == []


def test_an_expired_key_is_401(account):
    _, secret = factories.make_key(account, expires_at=timezone.now() - timedelta(seconds=1))

    assert APIClient().get("/api/v1/members", HTTP_AUTHORIZATION=f"Bearer {secret}").status_code == 401


def test_a_key_of_a_closed_account_is_401(account):
    client = with_key(account)
    account.status = "closed"
    account.save()

    assert client.get("/api/v1/members").status_code == 401


def test_a_key_that_would_end_before_it_starts_is_400(alice):
    body = {"name": "bot", "scopes": ["billing:read"], "expires_at": "2001-01-01T00:00:00Z"}

    assert "expires_at" in alice.post("/api/v1/api-keys", body, format="json").json()["errors"]


def test_a_key_makes_no_key_with_more_than_its_own_scopes(account):
    client = with_key(account, scopes=("account:write",))

    refused = client.post("/api/v1/api-keys", {"name": "more", "scopes": ["billing:write"]}, format="json")
    made = client.post("/api/v1/api-keys", {"name": "less", "scopes": ["account:read"]}, format="json")

    assert (refused.status_code, refused.json()["code"]) == (403, "missing_scope")
    assert made.status_code == 201


def test_an_owner_who_is_not_staff_makes_no_scaling_key(alice):
    response = alice.post("/api/v1/api-keys", {"name": "ops", "scopes": ["scaling:write"]}, format="json")

    assert response.status_code == 403


@pytest.mark.parametrize("make", [factories.make_operator, factories.make_viewer])
def test_only_owners_make_keys_and_members(make, account):
    client = signed_in(make(account))

    for path, body in [
        ("/api/v1/api-keys", {"name": "bot", "scopes": ["billing:read"]}),
        ("/api/v1/members", {"email": "new@example.com", "role": "owner"}),
    ]:
        response = client.post(path, body, format="json")
        assert (response.status_code, response.json()["code"]) == (403, "role_required")


def test_somebody_with_a_login_becomes_a_member_at_once(account, alice, django_capture_on_commit_callbacks):
    charlie = factories.make_user("Charlie")

    with django_capture_on_commit_callbacks(execute=True):
        made = alice.post("/api/v1/members", {"email": charlie.email.upper(), "role": "viewer"}, format="json")

    assert made.status_code == 201
    assert made.json()["state"] == "active"
    assert Membership.objects.get(account=account, user=charlie).role == Role.VIEWER
    assert mail.outbox[0].to == [charlie.email]


def test_a_stranger_is_invited_by_mail(account, alice, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        made = alice.post("/api/v1/members", {"email": "new@example.com", "role": "operator"}, format="json").json()

    assert made["state"] == "invited"
    assert [row["id"] for row in alice.get("/api/v1/invitations").json()["results"]] == [made["id"]]
    assert "/invitations/" in mail.outbox[0].body


def test_an_invitation_can_be_withdrawn(alice):
    made = alice.post("/api/v1/members", {"email": "new@example.com", "role": "operator"}, format="json").json()

    assert alice.delete(f"/api/v1/invitations/{made['id']}").status_code == 204
    assert alice.delete(f"/api/v1/invitations/{made['id']}").status_code == 404
    assert Invitation.objects.get().revoked_at is not None


def test_a_member_again_is_409(account, alice):
    bob = factories.make_operator(account)

    response = alice.post("/api/v1/members", {"email": bob.email, "role": "viewer"}, format="json")

    assert (response.status_code, response.json()["code"]) == (409, "conflict")


def test_roles_change_and_members_go(account, alice):
    bob = factories.make_operator(account)
    path = f"/api/v1/members/{account.memberships.get(user=bob).pk}"

    changed = alice.patch(path, {"role": "viewer"}, format="json")
    gone = alice.delete(path)

    assert changed.json()["role"] == "viewer"
    assert gone.status_code == 204
    assert signed_in(bob).get("/api/v1/members").status_code == 404


def test_the_last_owner_stays(account, alice):
    path = f"/api/v1/members/{account.memberships.get().pk}"

    for response in (alice.delete(path), alice.patch(path, {"role": "viewer"}, format="json")):
        assert (response.status_code, response.json()["state"]) == (409, "last_owner")


def test_an_outsider_sees_nothing_of_it(account):
    factories.make_account(charlie := factories.make_user("Charlie"))
    key, _ = factories.make_key(account)
    member = account.memberships.get()
    client = signed_in(charlie)

    for path in (f"/api/v1/api-keys/{key.pk}", f"/api/v1/members/{member.pk}"):
        assert client.get(path).status_code == 404
        assert client.delete(path).status_code == 404
    assert ApiKey.objects.get(pk=key.pk).revoked_at is None


def test_lists_ask_a_fixed_number_of_queries(account, django_assert_max_num_queries):
    client = with_key(account)
    for _ in range(5):
        factories.make_key(account)
        factories.make_operator(account)

    for path in ("/api/v1/api-keys", "/api/v1/members"):
        client.get(path)
        with django_assert_max_num_queries(3):
            assert len(client.get(path).json()["results"]) >= 6
