from __future__ import annotations

import pytest
from django.contrib import admin
from django.test import Client

from billing.models import Account
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def stella(client):
    client.force_login(factories.make_user("Stella", is_staff=True, is_superuser=True))
    return client


def test_staff_read_every_list_and_row_of_the_admin(stella):
    account = factories.make_account()
    factories.make_key(account)

    for model in admin.site._registry:
        path = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        assert stella.get(path).status_code == 200, path
        row = model._default_manager.order_by("pk").first()
        if row is not None:
            assert stella.get(f"{path}{row.pk}/change/").status_code == 200, path


def test_accounts_cannot_be_deleted_or_made_there(stella):
    account = factories.make_account()

    assert stella.get("/admin/billing/account/add/").status_code == 403
    assert stella.post(f"/admin/billing/account/{account.pk}/delete/", {"post": "yes"}).status_code == 403
    assert Account.objects.filter(pk=account.pk).exists()


def test_the_admin_never_shows_a_digest(stella):
    key, _ = factories.make_key(factories.make_account())

    assert key.digest not in stella.get(f"/admin/billing/apikey/{key.pk}/change/").content.decode()


def test_members_are_not_let_into_the_admin(client):
    client.force_login(factories.make_user())

    assert client.get("/admin/").status_code == 302


def test_an_unknown_page_is_a_404_with_the_request_s_id(client):
    response = client.get("/nothing/here", headers={"X-Request-ID": "abc-7"})

    assert response.status_code == 404
    assert "abc-7" in response.content.decode()


def test_a_page_without_csrf_token_is_a_403_page():
    client = Client(enforce_csrf_checks=True)

    response = client.post("/sign-in/", {"username": "a", "password": "b"})

    assert response.status_code == 403
    assert "reload the page" in response.content.decode()


def test_a_host_nobody_knows_is_400(client):
    assert client.get("/sign-in/", HTTP_HOST="evil.example").status_code == 400
    assert client.get("/api/v1/members", HTTP_HOST="evil.example")["Content-Type"] == "application/problem+json"


def test_what_breaks_is_a_500_page_without_traceback(client, monkeypatch):
    from ntd_site import health

    client.raise_request_exception = False
    monkeypatch.setitem(health.CHECKS, "redis", lambda: 1 / 0)

    response = client.get("/health")

    assert response.status_code == 500
    assert b"ZeroDivision" not in response.content
