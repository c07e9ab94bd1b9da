from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.core import mail
from django.urls import reverse
from django.utils import timezone

from billing import accounts, invitations, lockout
from billing.models import Role, User
from tests import factories

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"


def path_of(url):
    return re.sub(r"^https?://[^/]+", "", url)


def is_signed_in(client):
    return "_auth_user_id" in client.session


@pytest.fixture
def alice():
    return factories.make_account(factories.make_user("Alice", password=PASSWORD)).memberships.get().user


def test_signing_in_with_the_e_mail_in_any_case(client, alice):
    response = client.post(reverse("login"), {"username": f" {alice.email.upper()}", "password": PASSWORD})

    assert response.status_code == 302
    assert is_signed_in(client)


def test_a_wrong_password_is_422_and_a_sentence(client, alice):
    response = client.post(reverse("login"), {"username": alice.email, "password": "wrong"})

    assert response.status_code == 422
    assert "do not belong together" in response.content.decode()


def test_too_many_failures_lock_the_pair_out_and_nobody_else(client, alice):
    said = {"username": alice.email, "password": "wrong"}
    for _ in range(lockout.MOST_FAILURES):
        assert client.post(reverse("login"), said, REMOTE_ADDR="10.1.1.1").status_code == 422

    locked = client.post(reverse("login"), said | {"password": PASSWORD}, REMOTE_ADDR="10.1.1.1")
    elsewhere = client.post(reverse("login"), said | {"password": PASSWORD}, REMOTE_ADDR="10.1.1.2")

    assert locked.status_code == 429
    assert "Wait 15 minutes" in locked.content.decode()
    assert int(locked["Retry-After"]) > 0
    assert elsewhere.status_code == 302


def test_a_success_forgets_the_failures(client, alice):
    for _ in range(2 * lockout.MOST_FAILURES):
        client.post(reverse("login"), {"username": alice.email, "password": "wrong"}, REMOTE_ADDR="10.1.1.3")
        said = {"username": alice.email, "password": PASSWORD}
        assert client.post(reverse("login"), said, REMOTE_ADDR="10.1.1.3").status_code == 302
        client.logout()


def test_signing_out_needs_a_post(client, alice):
    client.force_login(alice)

    assert client.get(reverse("logout")).status_code == 405
    assert client.post(reverse("logout")).status_code == 302
    assert not is_signed_in(client)


def test_a_sign_in_link_works_once(client, alice):
    path = path_of(accounts.sign_in_url(alice))

    assert client.get(path).status_code == 302
    assert is_signed_in(client)
    client.logout()
    assert client.get(path).status_code == 410
    assert not is_signed_in(client)


def test_a_sign_in_link_dies_after_a_day(client, alice, monkeypatch):
    path, later = path_of(accounts.sign_in_url(alice)), timezone.now() + timedelta(hours=25)
    monkeypatch.setattr(timezone, "now", lambda: later)

    assert client.get(path).status_code == 410


def test_a_sign_in_link_dies_with_the_login(client, alice):
    path = path_of(accounts.sign_in_url(alice))
    User.objects.filter(pk=alice.pk).update(is_active=False)

    assert client.get(path).status_code == 410


@pytest.mark.parametrize("path", ["/sign-in/x/y/", "/sign-in/AAAA/abc-def/", "/sign-in/%00/%00/"])
def test_a_made_up_link_is_gone(client, path):
    assert client.get(path).status_code == 410


def test_a_password_is_reset_by_mail(client, alice):
    client.post(reverse("password_reset"), {"email": alice.email})
    path = path_of(re.search(r"https?://\S+", mail.outbox[0].body).group())
    form = client.get(path, follow=True)
    new = {"new_password1": "another good one", "new_password2": "another good one"}

    client.post(form.request["PATH_INFO"], new)

    alice.refresh_from_db()
    assert alice.check_password("another good one")


def test_asking_for_a_stranger_s_password_says_the_same_and_mails_nobody(client):
    response = client.post(reverse("password_reset"), {"email": "nobody@example.com"}, follow=True)

    assert response.status_code == 200
    assert mail.outbox == []


@pytest.fixture
def invitation_path(alice, django_capture_on_commit_callbacks):
    account = alice.memberships.get().account
    with django_capture_on_commit_callbacks(execute=True):
        invitations.invite(account=account, email="new@example.com", role=Role.VIEWER, by=alice, now=timezone.now())
    return path_of(re.search(r"https?://\S+", mail.outbox[0].body).group())


def test_somebody_new_makes_a_login_and_joins(client, invitation_path):
    assert "new@example.com" in client.get(invitation_path).content.decode()

    response = client.post(invitation_path, {"name": "Nina", "password": PASSWORD})

    assert response.status_code == 302
    assert User.objects.get(email="new@example.com").memberships.get().role == Role.VIEWER
    assert is_signed_in(client)
    assert client.get(invitation_path).status_code == 410


def test_a_weak_password_is_refused(client, invitation_path):
    response = client.post(invitation_path, {"name": "Nina", "password": "short"})

    assert response.status_code == 422
    assert not User.objects.filter(email="new@example.com").exists()


def test_somebody_else_signed_in_cannot_take_the_invitation(client, invitation_path):
    client.force_login(factories.make_user("Charlie"))

    assert "sign out" in client.get(invitation_path).content.decode()
    assert client.post(invitation_path).status_code == 403


def test_the_invited_person_joins_with_the_login_made_meanwhile(client, invitation_path):
    nina = factories.make_user("Nina", email="new@example.com")
    assert client.get(invitation_path).url.startswith(reverse("login"))
    client.force_login(nina)

    assert client.post(invitation_path).status_code == 302
    assert nina.memberships.count() == 1


def test_a_profile_is_saved_with_its_theme(client, alice):
    client.force_login(alice)

    response = client.post(reverse("me"), {"name": "Al", "time_zone": "Europe/Berlin", "theme": "dark"})

    alice.refresh_from_db()
    assert response.status_code == 302
    assert (alice.name, alice.time_zone) == ("Al", "Europe/Berlin")
    assert response.cookies["ntd_theme"].value == "dark"


def test_a_password_is_changed_by_who_knows_it(client, alice):
    client.force_login(alice)
    new = {"new_password1": "another good one", "new_password2": "another good one"}

    assert client.post(reverse("me"), new | {"old_password": "wrong"}).status_code == 422
    assert client.post(reverse("me"), new | {"old_password": PASSWORD}).status_code == 302
    assert is_signed_in(client)


def test_who_came_by_a_link_sets_a_first_password(client):
    user = factories.make_user("Nina")
    client.force_login(user)
    new = {"new_password1": "another good one", "new_password2": "another good one"}

    assert client.post(reverse("me"), new).status_code == 302
    user.refresh_from_db()
    assert user.check_password("another good one")
