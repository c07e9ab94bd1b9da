from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from billing import accounts, invitations
from billing.models import Account, Membership, Role
from tests import factories


@pytest.mark.django_db
def test_accounts_of_one_name_get_slugs_of_their_own():
    slugs = [factories.make_account(name="Acme Capital").slug for _ in range(3)]

    assert slugs == ["acme-capital", "acme-capital-2", "acme-capital-3"]


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["日本", "---", "  "])
def test_a_name_without_letters_still_gets_a_slug(name):
    assert accounts.open_account(name=name).slug.startswith("account")


@pytest.mark.django_db(transaction=True)
def test_of_two_owners_who_leave_at_once_one_stays():
    account = factories.make_account()
    accounts.add_member(account=account, user=factories.make_user("Dora"), role=Role.OWNER)
    refused = []

    def leave(membership):
        try:
            accounts.remove_member(membership=membership)
        except accounts.LastOwner:
            refused.append(membership)
        connection.close()

    run_together([lambda one=one: leave(one) for one in account.memberships.all()])

    assert len(refused) == 1
    assert account.memberships.count() == 1


@pytest.mark.django_db(transaction=True)
def test_accounts_opened_at_once_do_not_collide():
    def open_one():
        accounts.open_account(name="Acme")
        connection.close()

    run_together([open_one] * 4)

    assert Account.objects.filter(name="Acme").count() == 4


@pytest.mark.django_db(transaction=True)
def test_an_invitation_is_accepted_once_among_two():
    account = factories.make_account()
    invitation = invitations.invite(
        account=account, email="new@example.com", role=Role.VIEWER, by=None, now=timezone.now()
    )
    refused = []

    def accept(name):
        try:
            invitations.accept(invitation=invitation, user=factories.make_user(name), now=timezone.now())
        except invitations.NoLongerOpen:
            refused.append(name)
        connection.close()

    run_together([lambda: accept("Nina"), lambda: accept("Nils")])

    assert len(refused) == 1
    assert account.memberships.count() == 2


@pytest.mark.django_db
def test_an_invitation_ends_after_a_week():
    account, now = factories.make_account(), timezone.now()
    invitation = invitations.invite(account=account, email="new@example.com", role=Role.VIEWER, by=None, now=now)

    with pytest.raises(invitations.NoLongerOpen):
        invitations.accept(invitation=invitation, user=factories.make_user(), now=now + timedelta(days=7))


@pytest.mark.django_db
def test_a_second_invitation_replaces_the_first():
    account, now = factories.make_account(), timezone.now()

    for role in (Role.VIEWER, Role.OPERATOR):
        invitations.invite(account=account, email="New@example.com", role=role, by=None, now=now)

    assert [one.role for one in account.invitations.open()] == [Role.OPERATOR]


@pytest.mark.django_db
def test_invitations_have_an_end(monkeypatch):
    monkeypatch.setattr(invitations, "MOST_OPEN", 1)
    account = factories.make_account()
    invitations.invite(account=account, email="a@example.com", role=Role.VIEWER, by=None, now=timezone.now())

    with pytest.raises(invitations.TooManyInvitations):
        invitations.invite(account=account, email="b@example.com", role=Role.VIEWER, by=None, now=timezone.now())


@pytest.mark.django_db
def test_accepting_does_not_lower_a_role():
    account = factories.make_account()
    invitation = invitations.invite(
        account=account, email="new@example.com", role=Role.VIEWER, by=None, now=timezone.now()
    )
    bob = factories.make_operator(account)

    invitations.accept(invitation=invitation, user=bob, now=timezone.now())

    assert Membership.objects.get(account=account, user=bob).role == Role.OPERATOR


def run_together(jobs):
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
