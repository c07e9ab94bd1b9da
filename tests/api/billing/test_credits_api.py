"""account, balance, ledger, grants, holds."""

import json
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from uuid_utils.compat import uuid7

from billing import ledger
from billing.models import Account, ApiKey, Membership, Role, Transaction
from tests import factories, ledger_cast
from tests.api.billing.conftest import Caller

UCR = 1_000_000
HOLD = {"amount": "40", "expires_in_seconds": 600, "purpose": "backtest"}


def test_the_account_says_who_it_is_and_what_it_may(alice):
    answer = alice.get("account")

    assert answer.status_code == 200
    found = answer.json()
    assert (found["id"], found["status"], found["overdraft_credits"]) == (str(alice.account.pk), "active", "0.000000")
    assert answer["ETag"] == '"1"'


def test_details_are_changed_and_the_version_rises(alice):
    answer = alice.patch("account", {"legal_name": "Acme Ltd", "time_zone": "Europe/Berlin", "address": ""})

    assert (answer.status_code, answer.json()["legal_name"], answer.json()["version"]) == (200, "Acme Ltd", 2)


def test_the_loser_of_a_race_for_the_account_gets_409(alice):
    assert alice.patch("account", {"name": "One"}, **{"If-Match": '"1"'}).status_code == 200

    lost = alice.patch("account", {"name": "Two"}, **{"If-Match": "1"})

    assert (lost.status_code, lost.json()["code"], lost.json()["state"]) == (409, "conflict", "version 2")


@pytest.mark.parametrize("change", [{"status": "closed"}, {"tax_rate": "0.19"}, {"overdraft_credits": "5"}])
def test_what_is_staffs_of_an_account_is_refused_to_its_owner(alice, change):
    answer = alice.patch("account", change)

    assert (answer.status_code, answer.json()["code"]) == (403, "staff_required")


def test_staff_suspend_an_account_and_give_it_an_overdraft(alice, stella):
    path = f"account?account={alice.account.pk}"
    answer = stella.patch(path, {"status": "suspended", "overdraft_credits": "50", "tax_rate": "0.19"})

    assert answer.status_code == 200, answer.json()
    assert (answer.json()["status"], answer.json()["overdraft_credits"]) == ("suspended", "50.000000")
    assert alice.get("account/balance").json()["available"] == "1050.000000"


@pytest.mark.parametrize(
    ("change", "field"),
    [({"time_zone": "Mars/Base"}, "time_zone"), ({"currency": "USD"}, "currency"), ({"colour": "red"}, "colour"),
     ({"name": ""}, "name"), ({"locale": "??"}, "locale")],
)  # fmt: skip
def test_bad_details_are_refused_by_name(alice, change, field):
    answer = alice.patch("account", change)

    assert (answer.status_code, list(answer.json()["errors"])) == (400, [field])


def test_the_balance_is_in_credits_and_in_micro_credits(alice):
    soon = timezone.now() + timedelta(days=3)
    ledger_cast.give(alice.account, 5, expires_at=soon)
    alice.post("holds", HOLD)

    found = alice.get("account/balance").json()

    assert (found["available"], found["held"], found["posted"]) == ("965.000000", "40.000000", "1005.000000")
    assert (found["available_ucr"], found["held_ucr"], found["posted_ucr"]) == (965 * UCR, 40 * UCR, 1005 * UCR)
    assert found["next_expiry"]["amount"] == "5.000000"


def test_the_statement_is_newest_first_with_a_running_balance(alice):
    ledger_cast.charge(alice.account, 10)
    ledger_cast.charge(alice.account, 5)

    rows = alice.get("ledger/entries").json()["results"]

    assert [(row["kind"], row["amount"], row["balance_after"]) for row in rows] == [
        ("charge", "-5.000000", "985.000000"),
        ("charge", "-10.000000", "990.000000"),
        ("grant", "1000.000000", "1000.000000"),
    ]


def test_a_statement_is_read_in_pages(alice):
    for _ in range(4):
        ledger_cast.charge(alice.account, 1)

    first = alice.get("ledger/entries", page_size=3).json()
    second = alice.get(first["next"].split("/api/v1/")[1]).json()

    assert [row["line"] for row in first["results"] + second["results"]] == [5, 4, 3, 2, 1]
    assert alice.get("ledger/entries", kind="grant").json()["results"][0]["line"] == 1


@pytest.mark.parametrize("query", [{"kind": "theft"}, {"created_after": "yesterday"}, {"page_size": "0"}])
def test_bad_filters_are_400(alice, query):
    assert alice.get("ledger/entries", **query).status_code == 400


def test_a_customer_sees_the_wallets_leg_of_a_transaction_and_staff_see_all(alice, stella):
    receipt = ledger_cast.charge(alice.account, 10, meter="mcp_call")
    path = f"ledger/transactions/{receipt.transaction_id}"

    mine, staffs = alice.get(path).json(), stella.get(path).json()

    assert [leg["amount"] for leg in mine["entries"]] == ["-10.000000"]
    assert sorted(leg["amount"] for leg in staffs["entries"]) == ["-10.000000", "10.000000"]
    assert (mine["source"], mine["kind"], mine["reversed_by"]) == ("test", "charge", None)


def test_the_receiver_of_a_transfer_sees_it_too(alice, charlie):
    moved = ledger.transfer(
        from_account_id=alice.account.pk, to_account_id=charlie.account.pk, amount_ucr=UCR, key="t", now=timezone.now()
    )

    answer = charlie.get(f"ledger/transactions/{moved.pk}")

    assert [leg["amount"] for leg in answer.json()["entries"]] == ["1.000000"]


def transfer(caller, to, key="", **changes):
    body = {"to": str(to), "amount": "30", "reason": "Shared costs"} | changes
    return caller.post("ledger/transfers", {name: value for name, value in body.items() if value is not None}, key=key)


def second_of(caller):
    """Another account of the one who owns the caller's and made its key."""
    owner, other = caller.account.memberships.get().user, ledger_cast.make_account(0)
    Membership.objects.create(account=other, user=owner, role=Role.OWNER)
    ApiKey.objects.filter(account=caller.account).update(created_by=owner)
    return other


def test_credits_move_between_two_accounts_of_an_owner(alice):
    other = second_of(alice)

    answer, again = (transfer(alice, other.pk, key="one") for _ in range(2))

    found = answer.json()
    assert (answer.status_code, found["kind"], found["description"]) == (201, "transfer", "Shared costs")
    assert [leg["amount"] for leg in found["entries"]] == ["-30.000000"]
    assert (again.json(), again.headers["Idempotent-Replayed"]) == (found, "true")
    assert alice.get("account/balance").json()["available"] == "970.000000"
    assert ledger_cast.available(other, timezone.now()) == 30
    assert found["actor"].startswith("key:")


def test_a_person_who_owns_both_moves_credits_too(alice):
    other, client = second_of(alice), Client()
    client.force_login(alice.account.memberships.get().user)
    body = json.dumps({"to": str(alice.account.pk), "amount": "1", "reason": "Back"})
    transfer(alice, other.pk)

    answer = client.post(
        f"/api/v1/ledger/transfers?account={other.slug}", body, "application/json", headers={"Idempotency-Key": "b"}
    )

    assert [leg["amount"] for leg in answer.json()["entries"]] == ["-1.000000", "1.000000"]


def test_which_accounts_there_are_is_told_to_nobody(alice, charlie):
    second_of(alice)
    theirs, nobodys = transfer(alice, charlie.account.pk).json(), transfer(alice, uuid7()).json()

    theirs.pop("instance", None), nobodys.pop("instance", None)
    assert (theirs["status"], theirs) == (400, nobodys)
    assert theirs["errors"] == {"to": ["You own no such account."]}
    assert charlie.get("account/balance").json()["available"] == "1000.000000"


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"amount": "1001"}, 402, "insufficient_credits"),
        ({"amount": "0"}, 400, "validation_error"),
        ({"amount": 5}, 400, "validation_error"),
        ({"reason": None}, 400, "validation_error"),
        ({"reason": " "}, 400, "validation_error"),
        ({"to": "me"}, 400, "validation_error"),
        ({"to": "acme"}, 400, "validation_error"),
        ({"note": "x"}, 400, "validation_error"),
        ({"key": "used"}, 422, "idempotency_key_reused"),
    ],
)
def test_a_transfer_that_cannot_be_changes_nothing(alice, change, status, code):
    other = second_of(alice)
    transfer(alice, other.pk, key="used")
    change = {name: str(alice.account.pk) if value == "me" else value for name, value in change.items()}

    answer = transfer(alice, change.pop("to", other.pk), **({"amount": "31"} | change))

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert ledger_cast.available(other, timezone.now()) == 30


def test_a_transfer_needs_a_key_of_its_own_the_scope_and_an_owner(alice):
    other = second_of(alice)
    body = json.dumps({"to": str(other.pk), "amount": "1", "reason": "x"})
    assert alice._client.post("/api/v1/ledger/transfers", body, "application/json").status_code == 400
    assert transfer(Caller(alice.account, scopes=["billing:read"]), other.pk).json()["code"] == "missing_scope"
    assert transfer(Caller(alice.account, scopes=["billing:write"]), other.pk).json()["code"] == "role_required"
    ledger.set_overdraft(account_id=alice.account.pk, overdraft_ucr=UCR)
    Account.objects.filter(pk=other.pk).update(status="closed")
    closed = transfer(alice, other.pk)
    assert (closed.status_code, closed.json()["state"]) == (409, "closed")


def test_staff_move_credits_between_any(alice, charlie, stella):
    body = {"to": str(charlie.account.pk), "amount": "30", "reason": "Merged"}
    answer = stella.post(f"ledger/transfers?account={alice.account.slug}", body)

    assert [leg["amount"] for leg in answer.json()["entries"]] == ["-30.000000", "30.000000"]
    assert charlie.get("account/balance").json()["available"] == "1030.000000"


def test_staff_reverse_a_transaction_once(alice, stella):
    receipt = ledger_cast.charge(alice.account, 10, meter="mcp_call")
    path, said = f"ledger/transactions/{receipt.transaction_id}/reverse", {"reason": "Our mistake"}
    assert alice.post(path, said).json()["code"] == "staff_required"

    first, again = stella.post(path, said, key="r"), stella.post(path, said, key="r")

    found = first.json()
    assert (first.status_code, found["kind"], found["reverses"]) == (201, "reversal", str(receipt.transaction_id))
    assert (found["description"], again.json()) == ("Our mistake", found)
    assert alice.get("account/balance").json()["available"] == "1000.000000"
    assert alice.get(f"ledger/transactions/{receipt.transaction_id}").json()["reversed_by"] == found["id"]
    other = stella.post(path, said)
    assert (other.status_code, other.json()["code"]) == (409, "conflict")
    assert stella.post(path, {"reason": ""}).status_code == 400
    assert stella.post(f"ledger/transactions/{uuid7()}/reverse", said).status_code == 404
    assert stella._client.post(f"/api/v1/{path}", json.dumps(said), "application/json").status_code == 400


def test_what_was_bought_moved_or_reversed_is_not_reversed(alice, charlie, stella):
    alice.post("topups", {"credits": "10", "payment_method": "sim_ok"})
    bought = Transaction.objects.filter(account=alice.account, source="payments").get()
    moved = stella.post(
        f"ledger/transfers?account={alice.account.slug}",
        {"to": str(charlie.account.pk), "amount": "1", "reason": "x"},
    ).json()

    for pk in (bought.pk, moved["id"]):
        answer = stella.post(f"ledger/transactions/{pk}/reverse", {"reason": "x"})
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


def test_another_accounts_things_are_404(alice, charlie):
    transaction = Transaction.objects.filter(account=alice.account)[0]
    held = alice.post("holds", HOLD).json()["id"]

    for path in (f"ledger/transactions/{transaction.pk}", f"holds/{held}", f"account?account={alice.account.pk}"):
        assert charlie.get(path).status_code == 404
    assert charlie.post(f"holds/{held}/release").status_code == 404


def test_verify_is_staffs_and_says_what_it_checked(alice, stella):
    assert alice.get("ledger/verify").json()["code"] == "staff_required"

    found = stella.get("ledger/verify").json()

    assert found["ok"] is True
    assert {"transactions_balance", "grants_and_debt_make_up_the_wallet"} <= {c["name"] for c in found["checks"]}


# --- grants


def grant_of(account, /, **changes):
    return {"account": str(account.pk), "amount": "12.5", "category": "promo", "reason": "welcome"} | changes


def test_staff_give_credits(alice, stella):
    answer = stella.post("grants", grant_of(alice.account, priority=10))

    assert answer.status_code == 201, answer.json()
    found = answer.json()
    assert (found["amount"], found["remaining"], found["priority"]) == ("12.500000", "12.500000", 10)
    assert [row["category"] for row in alice.get("grants").json()["results"]] == ["promo", "signup"]
    assert [row["category"] for row in alice.get("grants", category="signup").json()["results"]] == ["signup"]


def test_customers_cannot_give_themselves_credits(alice):
    answer = alice.post("grants", grant_of(alice.account))

    assert (answer.status_code, answer.json()["code"]) == (403, "staff_required")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"amount": 5}, "amount"), ({"amount": "0"}, "amount"), ({"amount": "1e3"}, "amount"),
        ({"amount": "1.0000001"}, "amount"), ({"amount": "1000000000.1"}, "amount"), ({"category": "gift"}, "category"),
        ({"priority": 101}, "priority"), ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"category": "adjust", "reason": ""}, "reason"), ({"account": "0198a1b2-0000-7000-8000-000000000000"}, "account"),
    ],
)  # fmt: skip
def test_bad_grants_are_refused_by_name(alice, stella, change, field):
    answer = stella.post("grants", grant_of(alice.account, **change))

    assert (answer.status_code, list(answer.json()["errors"])) == (400, [field])


def test_the_same_key_grants_once(alice, stella):
    for _ in range(2):
        assert stella.post("grants", grant_of(alice.account), key="once").status_code == 201

    assert alice.get("account/balance").json()["available"] == "1012.500000"


# --- holds


def test_credits_are_held_captured_and_let_go(alice):
    made = alice.post("holds", HOLD)
    assert (made.status_code, made.json()["state"], made.json()["amount"]) == (201, "active", "40.000000")

    captured = alice.post(f"holds/{made.json()['id']}/capture", {"amount": "15"})

    assert (captured.status_code, captured.json()["state"], captured.json()["captured"]) == (
        200,
        "captured",
        "15.000000",
    )
    assert alice.get("account/balance").json()["available"] == "985.000000"
    assert alice.get("holds", state="captured").json()["results"][0]["id"] == made.json()["id"]


def test_a_hold_beyond_the_balance_is_402_in_the_words_of_the_contract(alice):
    answer = alice.post("holds", HOLD | {"amount": "1000.5"})

    assert answer.status_code == 402
    assert answer["Content-Type"] == "application/problem+json"
    found = answer.json()
    assert (found["code"], found["detail"]) == ("insufficient_credits", "Insufficient credits: need 1000.5, have 1000")
    assert (found["needed"], found["available"]) == ("1000.500000", "1000.000000")


def test_a_capture_reads_the_clock_once_it_has_the_wallets_lock(alice, monkeypatch):
    """Else one that waited for an invoice of its period would be on none."""
    held = alice.post("holds", HOLD).json()["id"]
    lock, midnight = ledger.lock_wallet, timezone.now() + timedelta(minutes=1)

    def wait(account_id):
        found = lock(account_id)
        monkeypatch.setattr(timezone, "now", lambda: midnight)
        return found

    monkeypatch.setattr(ledger, "lock_wallet", wait)
    alice.post(f"holds/{held}/capture", {"amount": "15"})

    assert Transaction.objects.get(kind="capture").created_at == midnight


def test_more_than_was_held_cannot_be_captured(alice):
    held = alice.post("holds", HOLD).json()["id"]

    answer = alice.post(f"holds/{held}/capture", {"amount": "40.000001"})

    assert (answer.status_code, answer.json()["code"], list(answer.json()["errors"])) == (
        400,
        "validation_error",
        ["amount"],
    )


@pytest.mark.parametrize("act", ["capture", "release"])
def test_a_hold_ends_once(alice, act):
    held = alice.post("holds", HOLD).json()["id"]
    body = {"amount": "1"} if act == "capture" else {}
    assert alice.post(f"holds/{held}/{act}", body).status_code == 200

    for again, again_body in (("capture", {"amount": "1"}), ("release", {})):
        answer = alice.post(f"holds/{held}/{again}", again_body)
        assert (answer.status_code, answer.json()["state"]) == (409, f"{act}d")


def test_an_expired_hold_is_409_with_its_state(alice):
    held = ledger_cast.hold(alice.account, 5)  # until an hour after a noon long past

    for act, body in (("capture", {"amount": "1"}), ("release", {})):
        answer = alice.post(f"holds/{held.pk}/{act}", body)
        assert (answer.status_code, answer.json()["state"]) == (409, "expired")


@pytest.mark.parametrize(
    "change", [{"expires_in_seconds": 0}, {"expires_in_seconds": "soon"}, {"amount": "-1"}, {"amount": None}]
)
def test_bad_holds_are_refused_by_name(alice, change):
    answer = alice.post("holds", HOLD | change)

    assert (answer.status_code, list(answer.json()["errors"])) == (400, list(change))


def test_a_key_without_the_scope_is_403(db):
    reader = Caller(ledger_cast.make_account(10), scopes=("billing:read",))

    assert reader.get("account/balance").status_code == 200
    assert reader.post("holds", HOLD).json()["code"] == "missing_scope"


def test_a_viewer_reads_and_does_not_write(db, client):
    account = factories.make_account()
    client.force_login(factories.make_viewer(account))

    assert client.get("/api/v1/account/balance").status_code == 200
    answer = client.post("/api/v1/holds", HOLD, "application/json", headers={"Idempotency-Key": "v"})
    assert answer.json()["code"] == "role_required"


@pytest.mark.parametrize("path", ["ledger/entries", "grants", "holds"])
def test_lists_take_the_same_number_of_queries_however_long(alice, path, django_assert_max_num_queries):
    for _ in range(5):
        ledger_cast.charge(alice.account, 1)
        ledger_cast.give(alice.account, 1)
        ledger_cast.hold(alice.account, 1, expires_at=timezone.now() + timedelta(hours=1))
    alice.get(path)

    with django_assert_max_num_queries(5):
        alice.get(path)
