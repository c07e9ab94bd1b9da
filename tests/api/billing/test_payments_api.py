"""The HTTP promises about money: topups, payments, refunds, payment methods, gateway webhooks, paying an invoice."""

import json
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from billing import card_setups, ledger
from billing.models import Payment
from tests import factories, fake_stripe, ledger_cast, payment_cast
from tests.api.billing.conftest import Caller
from tests.ledger_cast import UCR

METHODS = {
    "sim_ok": "succeeded",
    "sim_declined": "failed",
    "sim_action_required": "requires_action",
    "sim_unknown": "unknown",
    "sim_duplicate_webhook": "processing",
    "sim_reordered_webhook": "processing",
}


def top_up(caller, credits="1000", method="sim_ok", **changes):
    key = changes.pop("key", "")
    return caller.post("topups", {"credits": credits, "payment_method": method, **changes}, key=key)


def available(caller):
    return caller.get("account/balance").json()["available"]


def euros(amount):
    return {"amount": amount, "currency": "EUR"}


@pytest.fixture
def paid(alice):
    return top_up(alice).json()


@pytest.fixture(autouse=True)
def _the_books_stay_right(db):
    yield
    ledger_cast.assert_books_are_right()


@pytest.mark.parametrize(("method", "state"), METHODS.items())
def test_a_top_up_is_201_in_whatever_state(alice, method, state):
    answer = top_up(alice, method=method)

    found = answer.json()
    assert (answer.status_code, found["state"], found["credits"]) == (201, state, "1000.000000")
    assert (found["amount"], found["refunded"]) == (euros("10.00"), euros("0.00"))
    assert available(alice) == ("2000.000000" if state == "succeeded" else "1000.000000")
    assert alice.get(f"payments/{found['id']}").json() == found


def test_a_top_up_needs_an_idempotency_key_and_repeats_its_answer(alice):
    bare = alice._client.post("/api/v1/topups", json.dumps({"credits": "1"}), "application/json")
    assert (bare.status_code, bare.json()["errors"].keys()) == (400, {"Idempotency-Key"})

    first, again = top_up(alice, key="one"), top_up(alice, key="one")
    assert (first.json(), again.headers["Idempotent-Replayed"]) == (again.json(), "true")
    other = top_up(alice, credits="2", key="one")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert available(alice) == "2000.000000"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"credits": 10}, "credits"),
        ({"credits": "0"}, "credits"),
        ({"credits": "-1"}, "credits"),
        ({"credits": "1e3"}, "credits"),
        ({"credits": "1000000001"}, "credits"),
        ({"credits": None}, "credits"),
        ({"payment_method": "sim_none"}, "payment_method"),
        ({"payment_method": "0198c0de-0000-7000-8000-000000000000"}, "payment_method"),
        ({"payment_method": None}, "payment_method"),
        ({"price": "1"}, "price"),
    ],
)
def test_what_cannot_be_bought_is_400_and_charges_nothing(alice, change, field):
    answer = alice.post("topups", {"credits": "10", "payment_method": "sim_ok"} | change)

    assert (answer.status_code, set(answer.json()["errors"])) == (400, {field})
    assert not Payment.objects.exists()


def test_a_refund_gives_back_all_or_part(alice, paid):
    part = alice.post(f"payments/{paid['id']}/refunds", {"amount": euros("2.50"), "reason": "too many"})
    rest = alice.post(f"payments/{paid['id']}/refunds")

    assert (part.status_code, part.json()["state"], part.json()["credits"]) == (201, "succeeded", "250.000000")
    assert rest.json()["amount"] == euros("7.50")
    found = alice.get(f"payments/{paid['id']}").json()
    assert (found["state"], found["refunded"], len(found["refunds"])) == ("succeeded", euros("10.00"), 2)
    assert alice.get(f"payments/{paid['id']}/refunds").json()["results"] == found["refunds"][::-1]
    assert available(alice) == "1000.000000"


def test_a_refund_beyond_the_payment_is_422(alice, paid):
    alice.post(f"payments/{paid['id']}/refunds", {"amount": euros("9.00")})

    answer = alice.post(f"payments/{paid['id']}/refunds", {"amount": euros("1.01")})

    assert (answer.status_code, answer.json()["code"]) == (422, "refund_exceeds_payment")
    assert answer.json()["left"] == euros("1.00")


def test_a_refund_of_spent_credits_is_409_unless_staff_allow_a_debt(alice, stella, paid):
    ledger_cast.charge(alice.account, 1500, now=timezone.now())

    refused = alice.post(f"payments/{paid['id']}/refunds")
    forbidden = alice.post(f"payments/{paid['id']}/refunds", {"allow_debt": True})
    allowed = stella.post(f"payments/{paid['id']}/refunds", {"allow_debt": True})

    assert (refused.status_code, refused.json()["code"], refused.json()["unspent"]) == (409, "conflict", "500.000000")
    assert (forbidden.status_code, forbidden.json()["code"]) == (403, "staff_required")
    assert (allowed.status_code, allowed.json()["state"]) == (201, "succeeded")
    assert available(alice) == "-500.000000"


@pytest.mark.parametrize(
    "money", [euros("0"), euros("-1"), euros("1.001"), {"amount": "1", "currency": "USD"}, {"amount": 1}, "1.00", [1]]
)
def test_money_that_cannot_be_is_400(alice, paid, money):
    answer = alice.post(f"payments/{paid['id']}/refunds", {"amount": money})

    assert (answer.status_code, set(answer.json()["errors"])) == (400, {"amount"})


@pytest.mark.parametrize("method", ["sim_declined", "sim_unknown"])
def test_a_payment_that_took_nothing_is_not_refunded(alice, method):
    made = top_up(alice, method=method).json()

    answer = alice.post(f"payments/{made['id']}/refunds")

    assert (answer.status_code, answer.json()["state"]) == (409, made["state"])


def test_a_payment_that_needs_an_action_is_confirmed_or_cancelled_once(alice):
    one, other = (top_up(alice, method="sim_action_required").json() for _ in range(2))

    confirmed, cancelled = alice.post(f"payments/{one['id']}/confirm"), alice.post(f"payments/{other['id']}/cancel")

    assert (confirmed.status_code, confirmed.json()["state"]) == (200, "succeeded")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    for act in ("confirm", "cancel"):
        again = alice.post(f"payments/{one['id']}/{act}")
        assert (again.status_code, again.json()["state"]) == (409, "succeeded")


def test_another_account_finds_none_of_it(charlie, paid):
    assert charlie.get(f"payments/{paid['id']}").status_code == 404
    assert charlie.post(f"payments/{paid['id']}/refunds").status_code == 404
    assert charlie.get("payments").json()["results"] == []


def test_staff_read_any_payment_by_its_id(stella, paid):
    assert stella.get(f"payments/{paid['id']}").json()["id"] == paid["id"]


def test_only_owners_pay_and_so_do_keys_with_the_scope(alice):
    bob = Client()
    bob.force_login(factories.make_operator(alice.account))
    body = json.dumps({"credits": "1", "payment_method": "sim_ok"})

    refused = bob.post("/api/v1/topups", body, "application/json", headers={"Idempotency-Key": "bob"})
    reader = type(alice)(alice.account, scopes=("billing:read",))
    writer = type(alice)(alice.account, scopes=("billing:write",))

    assert (refused.status_code, refused.json()["code"]) == (403, "role_required")
    assert top_up(reader).json()["code"] == "missing_scope"
    assert top_up(writer).status_code == 201


def test_payments_are_listed_newest_first_by_state_in_few_queries(alice, django_assert_max_num_queries):
    for method in METHODS:
        top_up(alice, credits="1", method=method)

    with django_assert_max_num_queries(5):
        rows = alice.get("payments").json()["results"]

    assert [row["payment_method"] for row in rows] == list(METHODS)[::-1]
    assert [row["state"] for row in alice.get("payments", state="failed").json()["results"]] == ["failed"]
    assert alice.get("payments", state="lost").status_code == 400


def test_methods_are_kept_named_anew_and_removed(alice):
    kept = alice.post("payment-methods", {"token": "sim_ok"})
    second = alice.post("payment-methods", {"token": "sim_declined", "label": "Old card"}).json()
    first = kept.json()
    assert (kept.status_code, first["gateway"], first["is_default"]) == (201, "simulated", True)
    assert top_up(alice, method=None).json()["payment_method"] == first["id"]

    changed = alice.patch(f"payment-methods/{second['id']}", {"is_default": True}).json()

    assert (changed["is_default"], changed["label"]) == (True, "Old card")
    assert top_up(alice, method=None).json()["state"] == "failed"
    assert alice.post("payment-methods", {"token": "sim_ok"}).json()["id"] == first["id"]
    assert alice._client.delete(f"/api/v1/payment-methods/{second['id']}").status_code == 204
    assert [row["id"] for row in alice.get("payment-methods").json()["results"]] == [first["id"]]
    assert top_up(alice, method=second["id"]).status_code == 400
    assert alice.get(f"payment-methods/{second['id']}").status_code == 404


@pytest.mark.parametrize("token", ["4242424242424242", "4242-4242-4242-4242", "sim_none", "", "a b"])
def test_a_token_no_gateway_gave_is_400(alice, token):
    assert alice.post("payment-methods", {"token": token}).status_code == 400


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_a_card_is_given_on_stripe_s_page(alice, charlie, settings):
    assert alice.post("card-setups").status_code == 404  # Stripe takes nothing here
    with fake_stripe.serving() as server:
        settings.STRIPE_API_KEY, settings.STRIPE_API_URL = fake_stripe.KEY, server.url
        asked = {"label": "Ours", "is_default": True}
        first, again = (alice.post("card-setups", asked, key="one") for _ in range(2))
        found = first.json()
        assert (first.status_code, found["state"], found["payment_method"]) == (201, "open", None)
        assert (again.json(), again.headers["Idempotent-Replayed"]) == (found, "true")
        assert alice.post("card-setups", {"label": ""}, key="one").status_code == 422
        assert alice.post("card-setups", {"card": "4242424242424242"}).status_code == 400
        server.give_card("cs_test_1")

        card_setups.sweep(now=timezone.now() + timedelta(seconds=6))

    kept = alice.get(f"card-setups/{found['id']}").json()
    shown = alice.get(f"payment-methods/{kept['payment_method']}").json()
    assert (kept["state"], kept["action_url"]) == ("kept", "")
    assert [shown[name] for name in ("label", "brand", "last4", "exp_month", "exp_year", "is_default")] == [
        "Ours", "Visa", "4242", 12, 2034, True,
    ]  # fmt: skip
    assert [each["id"] for each in alice.get("card-setups", state="kept").json()["results"]] == [found["id"]]
    assert alice.get("card-setups", state="lost").status_code == 400
    assert charlie.get(f"card-setups/{found['id']}").status_code == 404


def test_a_key_that_only_reads_asks_for_no_page(alice):
    assert Caller(alice.account, scopes=["billing:read"]).post("card-setups").status_code == 403


def test_credits_are_bought_by_themselves_with_a_method(alice):
    kept = alice.post("payment-methods", {"token": "sim_ok"}).json()

    wanted = {"threshold": "100.000000", "credits": "500.000000", "payment_method": kept["id"]}
    answer = alice.patch("account", {"auto_topup": wanted})

    assert answer.json()["auto_topup"] == {**wanted, "paused_until": None, "last_error": ""}
    assert alice._client.delete(f"/api/v1/payment-methods/{kept['id']}").status_code == 409
    assert alice.patch("account", {"auto_topup": None}).json()["auto_topup"] is None


def test_an_open_invoice_is_paid_by_its_customer(alice, stella):
    invoice = open_invoice(alice, stella)

    declined = alice.post(f"invoices/{invoice['id']}/pay", {"payment_method": "sim_declined"})
    assert (declined.status_code, declined.json()["state"]) == (200, "open")
    assert declined.json()["payment"]["state"] == "failed"
    paid = alice.post(f"invoices/{invoice['id']}/pay", {"payment_method": "sim_ok"})
    assert (paid.status_code, paid.json()["state"]) == (200, "paid")
    assert paid.json()["payment"]["amount"] == invoice["amount_due"]
    assert alice.get("account/balance").json()["posted"] == "0.000000"
    again = alice.post(f"invoices/{invoice['id']}/pay", {"payment_method": "sim_ok"})
    assert (again.status_code, again.json()["state"]) == (409, "paid")


def test_who_pays_an_invoice_by_bank_is_told_where_to(alice, stella, settings):
    settings.BANK_IBAN, settings.BANK_ACCOUNT_HOLDER = "DE89370400440532013000", "ntd GmbH"
    invoice = open_invoice(alice, stella)

    payment = alice.post(f"invoices/{invoice['id']}/pay", {"payment_method": "bank_transfer"}).json()["payment"]

    assert payment["bank_transfer"]["reference"].startswith("RF")


def test_no_second_payment_of_an_invoice_starts_while_the_first_is_not_known(alice, stella):
    invoice = open_invoice(alice, stella)
    alice.post(f"invoices/{invoice['id']}/pay", {"payment_method": "sim_unknown"})

    second = alice.post(f"invoices/{invoice['id']}/pay", {"payment_method": "sim_ok"})

    assert (second.status_code, second.json()["state"]) == (409, "unknown")
    assert Payment.objects.count() == 1


def test_money_for_an_invoice_that_was_voided_meanwhile_becomes_credits(alice, stella):
    invoice = open_invoice(alice, stella)
    waiting = alice.post(f"invoices/{invoice['id']}/pay", {"payment_method": "sim_action_required"}).json()["payment"]
    stella.post(f"invoices/{invoice['id']}/void")

    alice.post(f"payments/{waiting['id']}/confirm")

    assert alice.get(f"invoices/{invoice['id']}").json()["state"] == "void"
    assert alice.get("account/balance").json()["posted"] == "0.000000"


def open_invoice(alice, stella):
    ledger.set_overdraft(account_id=alice.account.pk, overdraft_ucr=500 * UCR)
    ledger_cast.use(alice.account, "mcp_call", 1200)
    march = {"period_start": "2026-03-01T00:00:00Z", "period_end": "2026-04-01T00:00:00Z"}
    draft = stella.post("invoices/generate", {"account": str(alice.account.pk), **march}).json()
    return stella.post(f"invoices/{draft['id']}/finalize").json()


def webhook(said, *, name="simulated", **how):
    body = json.dumps(said).encode()
    headers = payment_cast.signed(body, **how)
    return Client().post(f"/api/v1/gateways/{name}/webhook", body, "application/json", headers=headers)


def test_a_signed_webhook_needs_no_session_and_acts_once(alice):
    made = top_up(alice, method="sim_action_required").json()
    said = payment_cast.event(made["id"])

    answers = [webhook(said).status_code for _ in range(2)]

    assert answers == [200, 200]
    assert alice.get(f"payments/{made['id']}").json()["state"] == "succeeded"
    assert available(alice) == "2000.000000"


@pytest.mark.parametrize("how", [{"secret": payment_cast.SECRET}, {"at": timezone.now().replace(year=2020)}])
def test_a_bad_signature_or_time_is_400(alice, how):
    made = top_up(alice, method="sim_action_required").json()

    answer = webhook(payment_cast.event(made["id"]), **how)

    assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")
    assert alice.get(f"payments/{made['id']}").json()["state"] == "requires_action"


def test_unknown_types_are_200_and_unknown_gateways_404(db):
    assert webhook(payment_cast.event("nobody", "customer.created")).status_code == 200
    assert webhook(payment_cast.event("nobody")).status_code == 200
    assert webhook(payment_cast.event("nobody"), name="stripe").status_code == 404


def test_a_webhook_longer_than_any_gateway_s_is_413(db):
    answer = Client().post("/api/v1/gateways/simulated/webhook", b"x" * 70_000, "text/plain")

    assert (answer.status_code, answer.json()["limit"]) == (413, 65536)


def test_a_bank_transfer_says_where_to_and_with_which_reference(alice, settings):
    settings.BANK_IBAN, settings.BANK_ACCOUNT_HOLDER = "DE89370400440532013000", "ntd GmbH"

    made = alice.post("topups", {"credits": "500", "payment_method": "bank_transfer"}).json()

    assert (made["state"], made["gateway"], made["payment_method"]) == ("processing", "bank", "bank_transfer")
    said = made["bank_transfer"]
    assert (said["iban"], said["holder"]) == ("DE89 3704 0044 0532 0130 00", "ntd GmbH")
    assert said["reference"].startswith("RF")
    assert said["missing"] == {"amount": "5.00", "currency": "EUR"}
