"""Cards that Stripe keeps, against the strict fake: given, lost on the way, told twice, charged, refused, removed."""

from __future__ import annotations

from datetime import timedelta

import httpx
import pytest
from django.core import mail
from django.db import IntegrityError, connection, transaction
from django.urls import reverse
from django.utils import timezone

from billing import auto_top_ups, card_setups, intents, ledger, methods, payments, restocking, tasks
from billing.gateways import AnswerLost, registry
from billing.gateways import stripe_calls as calls
from billing.models import CardSetup, GatewayWebhook, Payment, PaymentMethod, StripeCustomer
from billing.payment_states import ACTION_LAPSES, NEVER_ARRIVED
from tests import ledger_cast as cast
from tests.fake_gateway import answer
from tests.payment_cast import buy, now
from tests.stripe_cast import deliver

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.allow_hosts(["127.0.0.1"])]
PAGE = "cs_test_1"


def begin(account, key="k", **how) -> CardSetup:
    return card_setups.open_setup(account=account, key=key, now=now(), **how)


def ask(setup, at=None) -> CardSetup:
    return card_setups.ask(setup=CardSetup.objects.select_related("account").get(pk=setup.pk), now=at or now())


def keep(server, account, pays_as="pm_card_visa", key="k", **card) -> PaymentMethod:
    setup = begin(account, key)
    server.give_card(setup.session_id, pays_as, **card)
    return ask(setup).method


def state(setup) -> str:
    setup.refresh_from_db()
    return setup.state


@pytest.fixture
def losing(monkeypatch):
    """The answers to these requests are lost, counted from 1."""

    def lose(*numbers):
        real, asked = calls.said, iter(range(1, 100))

        def said(ask):
            found = real(ask)
            if next(asked) in numbers:
                raise AnswerLost("The line is dead.")
            return found

        monkeypatch.setattr(calls, "said", said)

    return lose


def test_a_card_is_given_on_stripe_s_page_and_kept(server, account):
    setup = begin(account)
    assert (setup.state, setup.action_url) == ("open", f"{server.url}/pay/{PAGE}")
    assert server.customers["cus_1"]["metadata"] == {"account": str(account.pk)}
    server.give_card(PAGE, last4="0005", brand="amex", exp_month=3, exp_year=2031)

    method = ask(setup).method

    assert (method.token, method.label, method.expires) == ("cus_1:pm_kept1", "American Express …0005", "03/31")
    assert (method.gateway, method.is_default, state(setup)) == ("stripe", True, "kept")
    assert buy(account, 100, str(method.pk)).state == "succeeded"
    assert "cus_1" in str(server.by_key)
    cast.assert_books_are_right()


@pytest.mark.parametrize("arrange", [lambda sent: sent * 2, lambda sent: sent[::-1], list])
def test_a_webhook_has_it_asked_about_and_it_is_kept_once(server, account, arrange):
    setup = begin(account)
    CardSetup.objects.update(ask_at=now() + timedelta(hours=1))
    card_setups.sweep(now=now())
    server.give_card(PAGE)
    deliver(server, arrange)
    assert state(setup) == "open"

    tasks.speak_to_gateways()
    deliver(server, arrange)
    ask(setup)

    assert (state(setup), PaymentMethod.objects.count()) == ("kept", 1)
    assert set(GatewayWebhook.objects.values_list("state", "error")) <= {("processed", ""), ("duplicate", "")}


def test_a_page_that_is_not_ours_changes_nothing(server, account):
    begin(account)
    server.give_card(PAGE)
    CardSetup.objects.update(session_id="cs_test_other")

    deliver(server)

    assert GatewayWebhook.objects.get().error == "It is about nothing that is known here."


def test_the_sweep_finds_what_nobody_told(server, account):
    setup = begin(account)
    server.give_card(PAGE)
    assert not card_setups.is_due(now=now())

    card_setups.sweep(now=now() + timedelta(seconds=6))

    assert state(setup) == "kept"


@pytest.mark.parametrize("lost", [(1,), (2,), (1, 2)], ids=["the customer's", "the page's", "both"])
def test_a_lost_answer_is_found_by_asking_the_same_again(server, account, losing, lost):
    losing(*lost)
    setup = begin(account)
    assert (setup.state, setup.action_url) == ("created", "")

    for _ in lost:
        card_setups.sweep(now=now())  # whoever asked first may still have its answer
        CardSetup.objects.filter(state="created").update(ask_at=now())
        card_setups.sweep(now=now())

    assert (state(setup), len(server.customers), len(server.sessions)) == ("open", 1, 1)
    assert StripeCustomer.objects.get().customer_id == "cus_1"


def test_the_same_key_is_the_same_page(server, account):
    first = begin(account, label="Ours")

    assert begin(account, label="Ours") == first
    with pytest.raises(ledger.KeyReused):
        begin(account, label="Other")
    assert (len(server.sessions), begin(account, "other").session_id) == (1, "cs_test_2")
    assert len(server.customers) == 1


def test_who_goes_back_keeps_nothing_and_the_page_closes_after_a_day(server, account):
    setup = begin(account)
    assert ask(setup).state == "open"

    ask(setup, at=now() + ACTION_LAPSES)

    assert (state(setup), server.sessions[PAGE]["status"]) == ("closed", "expired")
    assert server.give_card(PAGE) == ""


def test_a_card_given_before_the_page_was_closed_is_kept(server, account):
    setup = begin(account)
    gateway_says_open = registry.stripe().cards.fetch(PAGE)
    server.give_card(PAGE)
    assert registry.stripe().cards.close(PAGE).state == "done"

    card_setups.hear(setup_id=setup.pk, page=gateway_says_open, now=now())
    ask(setup, at=now() + ACTION_LAPSES)

    assert state(setup) == "kept"
    assert card_setups.hear(setup_id=setup.pk, page=gateway_says_open, now=now()).state == "kept"


def test_a_page_that_stripe_never_opened_is_given_up(server, account):
    server.mischief = lambda handler: answer(handler, 500, b"{}")
    setup = begin(account)
    assert setup.state == "created"

    ask(setup, at=now() + NEVER_ARRIVED)

    assert (state(setup), setup.failure_message) == ("closed", card_setups.NOT_OPENED)


def test_what_stripe_refuses_or_has_forgotten_is_closed_in_its_words(server, account, settings):
    forgotten = begin(account)
    server.sessions.clear()
    assert ask(forgotten).failure_message == card_setups.UNKNOWN_THERE

    settings.STRIPE_API_KEY = "sk_test_wrong0123456789"
    setup = begin(account, "two")

    assert (setup.state, "does not accept this service's key" in setup.failure_message) == ("closed", True)


@pytest.mark.parametrize(
    "change",
    [{"metadata": {"reference": "other"}}, {"customer": "cus_2"}, {"id": "cs_test_2"}, {"status": "imagined"},
     {"url": None}, {"mode": "payment"}],
)  # fmt: skip
def test_an_answer_about_something_else_is_none(server, account, change):
    setup = begin(account)
    server.sessions[PAGE] |= change

    with pytest.raises(AnswerLost):
        ask(setup)
    assert state(setup) == "open"


def test_a_customer_of_another_account_is_not_believed(server, account):
    StripeCustomer.objects.create(account=cast.make_account(credits=0), customer_id="cus_1")

    assert begin(account).state == "created"
    assert StripeCustomer.objects.count() == 1


def test_a_customer_that_is_gone_at_stripe_is_made_anew(server, account):
    begin(account, "one")
    server.customers = {"cus_of_others": {}}
    gone = begin(account, "two")
    assert (gone.state, "No such customer" in gone.failure_message) == ("closed", True)

    assert begin(account, "three").state == "open"

    assert StripeCustomer.objects.get().customer_id == "cus_2"


def test_too_many_and_closed_accounts_get_no_page(server, account, monkeypatch):
    keep(server, account)
    other = begin(account, "other")
    monkeypatch.setattr(methods, "MOST", 1)
    with pytest.raises(methods.TooManyMethods):
        begin(account, "third")

    server.give_card(other.session_id)
    assert ask(other).method.is_default is False  # what its customer has given already is kept
    account.status = "closed"
    account.save()
    with pytest.raises(intents.ClosedAccount):
        begin(account, "fourth")
    assert CardSetup.objects.count() == 2


def test_without_stripe_there_is_no_page(account, settings):
    settings.STRIPE_API_KEY = ""

    with pytest.raises(registry.UnknownGateway):
        begin(account)


def test_a_bank_that_asks_is_answered_by_who_is_there(server, account):
    method = keep(server, account, "pm_card_threeDSecure2Required")

    payment = buy(account, 100, str(method.pk))

    assert (payment.state, bool(payment.action_url)) == ("requires_action", True)


def test_a_bank_that_asks_fails_what_is_bought_by_itself_and_the_owner_hears_why(server, account):
    method = keep(server, account, "pm_card_threeDSecure2Required")
    auto_top_ups.set_up(account=account, threshold_ucr=cast.UCR, credits_ucr=100 * cast.UCR, method=method, now=now())

    assert restocking.sweep(now=now()) == 1

    payment = Payment.objects.get()
    assert (payment.state, payment.failure_code) == ("failed", "authentication_required")
    assert "Buy credits with this card once yourself" in mail.outbox[0].body
    auto = auto_top_ups.of(account)
    assert ("in 24 hours" in mail.outbox[0].body, auto.paused_until > now() + timedelta(hours=23)) == (True, True)
    assert "Buy credits with this card once yourself" in auto.last_error
    assert cast.available(account, now()) == 0


def test_a_card_buys_by_itself(server, account):
    method = keep(server, account)
    auto_top_ups.set_up(account=account, threshold_ucr=cast.UCR, credits_ucr=100 * cast.UCR, method=method, now=now())

    restocking.sweep(now=now())

    assert (Payment.objects.get().state, cast.available(account, now())) == ("succeeded", 100)


def test_a_removed_card_is_forgotten_by_stripe_too(server, account):
    method = keep(server, account)
    payment = buy(account, 100, str(method.pk))

    methods.remove(method=method, now=now())
    card_setups.sweep(now=now())

    assert server.cards["pm_kept1"]["customer"] is None
    assert PaymentMethod.objects.get().forget_at is None
    assert payments.refund(payment=payment, amount=None, key="r", now=now()).state == "succeeded"
    assert not card_setups.is_due(now=now())


@pytest.mark.parametrize("how", ["lost", "done before", "gone"])
def test_forgetting_is_tried_until_it_is_known_to_be_done(server, account, losing, how):
    methods.remove(method=keep(server, account), now=now())
    if how == "done before":
        server.cards["pm_kept1"]["customer"] = None
    if how == "gone":
        server.cards.clear()
    if how == "lost":
        losing(1)

    card_setups.sweep(now=now())
    assert PaymentMethod.objects.filter(forget_at=None).exists() == (how != "lost")
    card_setups.sweep(now=now() + card_setups.FORGET_AGAIN)

    assert PaymentMethod.objects.get().forget_at is None


def test_stripe_s_refusal_of_the_key_is_no_proof_that_a_card_is_forgotten(server, account, settings):
    methods.remove(method=keep(server, account), now=now())
    settings.STRIPE_API_KEY = "sk_test_wrong0123456789"

    card_setups.sweep(now=now())

    assert PaymentMethod.objects.get().forget_at > now()


def test_nobody_keeps_or_removes_the_card_of_another_account(server, account):
    keep(server, account)
    thief = cast.make_account(credits=0)

    with pytest.raises(methods.BadToken):
        methods.add(account=thief, token="cus_1:pm_kept1", gateway="stripe", now=now())
    by_hand = methods.add(account=thief, token="cus_unknown:pm_kept1", gateway="stripe", now=now())
    methods.remove(method=by_hand, now=now())

    assert not card_setups.is_due(now=now())
    assert server.cards["pm_kept1"]["customer"] == "cus_1"


def test_the_database_keeps_what_must_hold(server, account):
    keep(server, account)
    for change in (
        "update billing_cardsetup set method_id = null",
        "update billing_cardsetup set ask_at = now()",
        "update billing_cardsetup set state = 'imagined'",
        "update billing_cardsetup set session_id = null",
        "update billing_paymentmethod set last4 = '42'",
        "update billing_paymentmethod set brand = ''",
        "update billing_paymentmethod set forget_at = now()",
    ):
        with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(change)


@pytest.mark.parametrize(("day", "is_over"), [("2031-03-31", False), ("2031-04-01", False), ("2031-04-02", True)])
def test_a_card_is_good_to_the_end_of_its_month(day, is_over):
    card = PaymentMethod(exp_month=3, exp_year=2031)

    assert card.has_expired(timezone.make_aware(timezone.datetime.fromisoformat(day))) is is_over
    assert PaymentMethod().has_expired(now()) is False


def test_the_pages_lead_to_stripe_and_back(server, account, client):
    client.force_login(account.memberships.get().user)
    page = reverse("billing:payment-methods", args=[account])
    assert "Add a card" in client.get(page).content.decode()
    form = {"key": "0198c0de-0000-7000-8000-000000000001"}

    shown = client.post(reverse("billing:card-add", args=[account]), form, follow=True).content.decode()
    again = client.post(reverse("billing:card-add", args=[account]), form)

    setup = CardSetup.objects.get()
    assert again.headers["location"] == reverse("billing:card-setup", args=[account, setup.pk])
    assert f'href="{setup.action_url}"' in shown
    assert "no card number is entered here" in shown
    back = httpx.post(setup.action_url, data={"how": "back"}).headers["location"]
    gone_back = client.get(back.removeprefix("http://127.0.0.1:8000"), follow=True)
    assert "Go to Stripe" in gone_back.content.decode()

    back = httpx.post(setup.action_url, data={"how": "pm_card_visa"}).headers["location"]
    kept = client.get(reverse("billing:card-setup-returned", args=[account, setup.pk]), follow=True).content.decode()

    assert back.endswith(reverse("billing:card-setup-returned", args=[account, setup.pk]))
    assert ("Visa …4242 is kept." in kept, "12/34" in kept) == (True, True)
    top_up = client.get(reverse("billing:top-up", args=[account])).content.decode()
    assert "Visa …4242, until 12/34" in top_up
    client.post(reverse("billing:payment-method-remove", args=[account, PaymentMethod.objects.get().pk]))
    assert "is removed again" in client.get(reverse("billing:card-setup", args=[account, setup.pk])).content.decode()
