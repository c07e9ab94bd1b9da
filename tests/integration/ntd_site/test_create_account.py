from __future__ import annotations

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from rest_framework.test import APIClient

from billing import keys
from billing.models import Account, Grant, User
from ntd_site import running

pytestmark = pytest.mark.django_db


def run(*arguments):
    out = StringIO()
    call_command("create_account", *arguments, "--json", stdout=out)
    return json.loads(out.getvalue())


def test_it_makes_an_account_with_an_owner_and_keys_that_work():
    made = run("Acme", "--email", "Alice@Example.com")

    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {made['api_key']}")
    members = client.get("/api/v1/members").json()["results"]
    assert set(made) == {"account", "email", "sign_in_url", "api_key", "e2b_api_key"}
    assert [(row["email"], row["role"]) for row in members] == [("alice@example.com", "owner")]
    assert keys.authenticate(made["api_key"], now=timezone.now()).key.scopes == sorted(keys.SCOPES)
    assert set(made["e2b_api_key"].removeprefix("e2b_")) <= set("0123456789abcdef")


def test_the_printed_link_signs_in(client):
    url = run("Acme", "--email", "alice@example.com")["sign_in_url"]

    assert client.get("/" + url.split("/", 3)[3]).status_code == 302


@pytest.mark.parametrize(
    ("said", "is_up", "begins"),
    [
        ("", True, "http://127.0.0.1:8320/"),
        ("", False, "http://127.0.0.1:8000/"),
        ("https://ntd.example", True, "https://ntd.example/"),
    ],
)
def test_the_link_leads_to_where_the_product_of_this_home_listens(monkeypatch, settings, said, is_up, begins):
    settings.BASE_URL = said or "http://127.0.0.1:8000"
    monkeypatch.delenv("NTD_BASE_URL", raising=False)
    if said:
        monkeypatch.setenv("NTD_BASE_URL", said)
    monkeypatch.setattr(running, "read", lambda where: {"url": "http://127.0.0.1:8320"} if is_up else None)

    assert run("Acme", "--email", "alice@example.com")["sign_in_url"].startswith(begins + "sign-in/")


def test_again_it_changes_nothing_and_earlier_keys_go_on():
    first = run("Acme", "--email", "alice@example.com", "--credits", "50")
    second = run("Acme", "--email", "alice@example.com", "--credits", "50")

    assert first["account"] == second["account"]
    assert Account.objects.count() == User.objects.count() == 1
    assert [grant.amount_ucr for grant in Grant.objects.all()] == [50_000_000]
    assert keys.authenticate(first["api_key"], now=timezone.now()) is not None


def test_it_adds_a_member_with_a_role():
    run("Acme", "--email", "alice@example.com")

    run("acme", "--email", "bob@example.com", "--role", "operator")

    roles = Account.objects.get().memberships.order_by("created_at").values_list("role", flat=True)
    assert list(roles) == ["owner", "operator"]


def test_staff_get_a_staff_key():
    made = run("Ops", "--email", "stella@example.com", "--staff")

    assert keys.authenticate(made["api_key"], now=timezone.now()).is_staff
    assert User.objects.get().is_staff


@pytest.mark.parametrize(
    "arguments",
    [
        ("", "--email", "a@example.com"),
        ("Acme", "--email", "nobody"),
        ("Acme", "--email", "a@example.com", "--credits", "-1"),
    ],
)
def test_nonsense_is_refused_with_a_sentence(arguments):
    with pytest.raises(CommandError, match=r"\.$"):
        run(*arguments)
