"""What people do on the pages of payments, and what each state tells them."""

from __future__ import annotations

import pytest
from django.urls import reverse
from django.utils import timezone

from billing import auto_top_ups, ledger, methods
from billing.models import Invoice, Payment, PaymentMethod
from tests import factories, payment_cast
from tests import ledger_cast as cast
from tests.ledger_cast import UCR
from tests.page_cast import act, page, text
from tests.payment_cast import buy, now

pytestmark = pytest.mark.django_db
WORDS = {
    "sim_ok": "were added",
    "sim_declined": "The card was declined.",
    "sim_action_required": "Your bank asks you to confirm",
    "sim_unknown": "It is not known yet whether the money was taken.",
    "sim_duplicate_webhook": "has not said yet whether it succeeded",
}


def test_a_top_up_is_reviewed_and_then_paid_once_however_often_the_button_is_pressed(alice):
    assert page(alice, "top-up").status_code == 200
    review = page(alice, "top-up", credits="250", method="sim_ok")
    assert "Pay 2.50\xa0EUR" in review.content.decode()
    assert not Payment.objects.exists()
    key = str(review.context["submit"].initial["key"])

    for _ in range(2):
        receipt = act(alice, "top-up", credits="250", method="sim_ok", key=key)

    assert "were added" in text(receipt)
    assert Payment.objects.count() == 1
    assert cast.available(alice.account, now()) == 1250


def test_the_cost_follows_what_is_typed(alice):
    type(alice.account).objects.filter(pk=alice.account.pk).update(tax_rate="0.19")

    piece = page(alice, "top-up", credits="100", part="cost").content.decode()

    assert "<html" not in piece
    assert [each in piece for each in ("1.00\xa0EUR", "0.19\xa0EUR", "1.19\xa0EUR")] == [True] * 3
    assert "at most six places" in page(alice, "top-up", credits="x", part="cost").content.decode()


@pytest.mark.parametrize("wrong", [{"credits": "-1"}, {"credits": "x"}, {"method": "sim_none"}, {"method": ""}])
def test_what_cannot_be_bought_is_said_beside_its_field(alice, wrong):
    assert page(alice, "top-up", **{"credits": "1", "method": "sim_ok"} | wrong).status_code == 422
    assert (
        act(alice, "top-up", **{"credits": "1", "method": "sim_ok", "key": str(cast.give)} | wrong).status_code == 422
    )
    assert not Payment.objects.exists()


@pytest.mark.parametrize(("method", "words"), WORDS.items())
def test_every_state_is_told_in_plain_words(alice, method, words):
    payment = buy(alice.account, 10, method)

    assert words in text(page(alice, "payment", payment.pk))


def test_a_payment_whose_outcome_is_open_warns_before_a_second_one(alice):
    buy(alice.account, 10, "sim_unknown")

    assert "The outcome of a payment is still open" in text(page(alice, "top-up"))


def test_the_page_keeps_itself_true_while_the_outcome_is_open(alice):
    waiting, paid = buy(alice.account, 10, "sim_unknown"), buy(alice.account, 10)

    assert "every 10s" in page(alice, "payment", waiting.pk).content.decode()
    assert "every 10s" not in page(alice, "payment", paid.pk).content.decode()
    piece = alice.get(reverse("billing:payment", args=[alice.account, paid.pk]), headers={"HX-Request": "true"})
    assert f'id="payment-{paid.pk}"' in piece.content.decode()
    assert "<html" not in piece.content.decode()


@pytest.mark.parametrize(("answer", "words"), [("approve", "were added"), ("decline", "The card was declined.")])
def test_the_simulated_bank_is_answered_on_its_page(alice, answer, words):
    payment = buy(alice.account, 10, "sim_action_required")
    assert payment.action_url in page(alice, "payment", payment.pk).content.decode()
    assert page(alice, "payment-bank", payment.pk).status_code == 200

    assert words in text(act(alice, "payment-bank", payment.pk, answer=answer))
    assert page(alice, "payment-bank", payment.pk).status_code == 302


def test_an_open_payment_is_cancelled_or_asked_about(alice):
    waiting, unknown = buy(alice.account, 10, "sim_action_required"), buy(alice.account, 10, "sim_unknown")

    assert "The payment was given up." in text(act(alice, "payment-cancel", waiting.pk))
    assert "were added" in text(act(alice, "payment-ask", unknown.pk))


def test_a_refund_is_given_on_the_page(alice):
    payment = buy(alice.account, 100)
    form = page(alice, "payment", payment.pk).context["refund_form"]

    said = {"amount": "0.40", "reason": "too many", "key": str(form.initial["key"])}
    for _ in range(2):
        shown = text(act(alice, "payment-refund", payment.pk, **said))

    payment.refresh_from_db()
    assert payment.refunded == 40
    assert "40.00 cr taken back · too many" in shown


@pytest.mark.parametrize("wrong", [{"amount": "1.01"}, {"amount": "-1"}, {"amount": "x"}, {"key": "x"}])
def test_a_refund_that_cannot_be_is_said_beside_its_field(alice, wrong):
    payment = buy(alice.account, 100)

    said = {"amount": "1.00", "reason": "", "key": "0198a1b2-0000-7000-8000-000000000000"} | wrong
    assert act(alice, "payment-refund", payment.pk, **said).status_code == 422
    payment.refresh_from_db()
    assert payment.refunded == 0


def test_only_staff_are_asked_about_a_debt(alice, stella):
    payment = buy(stella.account, 100)
    cast.charge(stella.account, 1050, now=now())
    said = {"amount": "", "reason": "", "key": "0198a1b2-0000-7000-8000-000000000000"}
    assert "allow_debt" in page(stella, "payment", payment.pk).context["refund_form"].fields

    assert act(stella, "payment-refund", payment.pk, **said).status_code == 422
    assert act(stella, "payment-refund", payment.pk, **said, allow_debt="on").status_code == 200

    alice.force_login(alice.account.memberships.get().user)
    assert "refund_form" in page(alice, "payment", payment.pk).context
    assert cast.available(alice.account, now()) == -50


def test_methods_are_kept_made_default_and_removed(alice):
    act(alice, "payment-methods", gateway="simulated", token="sim_ok", label="")
    act(alice, "payment-methods", gateway="simulated", token="sim_declined", label="Old card")
    second = PaymentMethod.objects.get(token="sim_declined")

    assert "Old card" in text(act(alice, "payment-method-default", second.pk))
    assert "is removed" in text(act(alice, "payment-method-remove", second.pk))
    assert [method.token for method in methods.kept(alice.account)] == ["sim_ok"]
    assert act(alice, "payment-methods", gateway="simulated", token="4242424242424242").status_code == 422


def test_the_automatic_top_up_is_set_shown_and_ended(alice):
    method = methods.add(account=alice.account, token="sim_ok", now=now())
    assert page(alice, "auto-top-up").status_code == 200

    shown = text(act(alice, "auto-top-up", threshold="100", credits="500", method=str(method.pk)))

    assert "When fewer than 100.00" in shown
    assert act(alice, "auto-top-up", threshold="0", credits="500", method=str(method.pk)).status_code == 422
    act(alice, "auto-top-up-end")
    assert auto_top_ups.of(alice.account) is None


def test_an_open_invoice_is_paid_from_its_page(alice):
    invoice = open_invoice(alice.account)
    assert (
        reverse("billing:invoice-pay", args=[alice.account, invoice.pk])
        in page(alice, "invoice", invoice.pk).content.decode()
    )
    form = page(alice, "invoice-pay", invoice.pk).context["submit"]

    paid = act(alice, "invoice-pay", invoice.pk, method="sim_ok", key=str(form.initial["key"]))

    assert "of the overdraft are repaid" in text(paid)
    invoice.refresh_from_db()
    assert (invoice.state, page(alice, "invoice-pay", invoice.pk).status_code) == ("paid", 302)


def open_invoice(account):
    from billing import invoicing, periods

    ledger.set_overdraft(account_id=account.pk, overdraft_ucr=500 * UCR)
    cast.use(account, "mcp_call", 1200)
    march = periods.Period(cast.NOON.replace(day=1, hour=0), cast.NOON.replace(day=31, hour=0))
    draft, _ = invoicing.generate(account=account, period=march, now=now())
    return Invoice.objects.get(pk=invoicing.finalize(invoice_id=draft.pk, now=now()).pk)


def test_an_operator_sees_payments_and_pays_nothing(alice):
    payment = buy(alice.account, 10, "sim_action_required")
    alice.force_login(factories.make_operator(alice.account))

    assert "Top up" not in text(page(alice, "payments"))
    assert "Cancel the payment" not in text(page(alice, "payment", payment.pk))
    for name, args in (("top-up", ()), ("payment-bank", (payment.pk,)), ("payment-cancel", (payment.pk,))):
        assert act(alice, name, *args).status_code == 403


def test_another_account_s_payment_is_404(alice):
    other = buy(cast.make_account(0), 10)

    for name in ("payment", "payment-bank"):
        assert page(alice, name, other.pk).status_code == 404
    assert act(alice, "payment-refund", other.pk).status_code == 404


def test_staff_see_what_is_open_ask_about_it_and_read_webhooks(stella):
    other = cast.make_account(0)
    unknown = buy(other, 10, "sim_unknown")
    buy(other, 10, "sim_duplicate_webhook")
    payment_cast.send_webhooks()
    shown = text(page(stella, "gateways"))
    assert reverse("billing:gateway-ask", args=[stella.account, unknown.pk]) in shown
    assert "payment.succeeded" in shown

    assert "the payment is succeeded" in text(act(stella, "gateway-ask", unknown.pk))

    webhook = payment_cast.webhooks()[0]
    assert "webhook-signature" in text(page(stella, "webhook", webhook.pk))
    assert page(stella, "gateways", state="duplicate").context["page"].results[0].state == "duplicate"
    assert "Nothing is open" in text(page(stella, "gateways"))


def test_staff_try_a_failed_webhook_again(stella):
    payment = buy(stella.account, 10, "sim_action_required")
    webhook = payment_cast.deliver(payment_cast.event("nobody"))
    said = {"state": "failed", "processed_at": None, "error": "x", "retry_at": timezone.now()}
    type(webhook).objects.filter(pk=webhook.pk).update(**said)

    assert "Try again" in text(page(stella, "webhook", webhook.pk))
    assert "is processed" in text(act(stella, "webhook-retry", webhook.pk))
    assert payment.state == "requires_action"


@pytest.mark.parametrize("name", ["gateways", "webhook"])
def test_staff_s_pages_are_staff_s(alice, name):
    args = [payment_cast.deliver(payment_cast.event("nobody")).pk] if name == "webhook" else []

    assert page(alice, name, *args).status_code == 403


@pytest.mark.parametrize(("name", "most"), [("payments", 12), ("gateways", 14)])
def test_pages_take_few_queries_however_much_there_is(stella, name, most, django_assert_max_num_queries):
    for number in range(6):
        buy(stella.account, 1, list(WORDS)[number % 5])
    payment_cast.send_webhooks()
    page(stella, name)

    with django_assert_max_num_queries(most):
        page(stella, name)
