"""What people do on the pages of webhooks, budgets, disputes and arrears."""

from __future__ import annotations

import pytest
from django.utils import timezone

from billing import budgets, ledger, payments
from billing.models import Alert, Budget, Dispute, WebhookDelivery, WebhookEndpoint
from billing.outgoing import courier, wire
from tests import factories, outgoing_cast, payment_cast
from tests import ledger_cast as cast
from tests.ledger_cast import UCR
from tests.page_cast import act, page, text

pytestmark = pytest.mark.django_db
URL = "https://ops.example/hook"


def test_an_endpoint_is_added_and_its_secret_shown_once(alice):
    assert "No endpoints yet" in text(page(alice, "webhooks"))
    added = act(alice, "webhooks", url=URL, description="ops", events=["invoice.paid", "invoice.paid"])

    made = WebhookEndpoint.objects.get()
    assert made.secret in text(added)
    assert made.secret not in text(page(alice, "webhooks"))
    assert URL in text(page(alice, "endpoint", made.pk))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"url": "https://127.0.0.1/", "events": ["*"]}, "a loopback address"),
        ({"url": URL}, "Choose at least one event."),
        ({"url": URL, "events": ["node.unhealthy"]}, "Select a valid choice"),
    ],
)
def test_what_cannot_be_is_said_beside_the_field(alice, given, words):
    answer = act(alice, "webhooks", **given)

    assert answer.status_code == 422
    assert words in text(answer)
    assert not WebhookEndpoint.objects.exists()


def test_an_endpoint_is_tried_rotated_switched_and_removed(alice):
    endpoint = outgoing_cast.make_endpoint(alice.account, URL)
    assert "A test event is on its way." in text(act(alice, "endpoint-test", endpoint.pk))
    rotated = text(act(alice, "endpoint-rotate", endpoint.pk, overlap="24"))
    old = endpoint.secret
    endpoint.refresh_from_db()
    assert endpoint.secret in rotated
    assert endpoint.old_secret == old
    act(alice, "endpoint-switch", endpoint.pk)
    assert "Switch it on first" in text(act(alice, "endpoint-test", endpoint.pk))
    act(alice, "endpoint-switch", endpoint.pk)
    assert "1 event sent again" in text(act(alice, "endpoint-replay", endpoint.pk, span="1"))
    act(alice, "endpoint-change", endpoint.pk, url="https://new.example/", events=["*"])
    endpoint.refresh_from_db()
    assert (endpoint.url, endpoint.events) == ("https://new.example/", ["*"])
    act(alice, "endpoint-remove", endpoint.pk)
    assert not WebhookEndpoint.objects.exists()


def test_the_log_shows_each_attempt_and_an_answer_without_its_tricks(alice):
    endpoint = outgoing_cast.make_endpoint(alice.account, URL)
    outgoing_cast.tell(alice.account)
    (claimed,) = courier.claim(room=1, busy=[], is_failing=False)
    courier.record(claimed, wire.Answer(500, 7, excerpt="<script>alert(1)</script>\n\u202eevil"))

    log = page(alice, "endpoint", endpoint.pk, state="pending")
    one = page(alice, "delivery", claimed.pk)

    assert "credits.low" in text(log)
    assert "Every attempt has failed since" in text(log)
    assert "7 ms" in text(one)
    assert "&lt;script&gt;" in text(one)
    assert "\u202e" not in text(one)
    assert "sent again, under the same id" in text(act(alice, "delivery-replay", claimed.pk))
    assert WebhookDelivery.objects.get().due_at <= timezone.now()


def test_an_operator_sees_webhooks_and_changes_none(alice):
    endpoint = outgoing_cast.make_endpoint(alice.account, URL)
    alice.force_login(factories.make_operator(alice.account))

    assert "Add an endpoint" not in text(page(alice, "webhooks"))
    assert page(alice, "endpoint", endpoint.pk).status_code == 200
    assert act(alice, "endpoint-rotate", endpoint.pk, overlap="0").status_code == 403


def test_a_budget_is_made_changed_and_removed(alice):
    given = {"watches": "meter:inference", "period": "day", "limit": "10", "action": "block", "thresholds": "50, 100 %"}
    act(alice, "budgets", **given)
    made = Budget.objects.get()
    assert (made.scope, made.target, made.limit_ucr, made.thresholds) == ("meter", "inference", 10 * UCR, [50, 100])
    assert "such a budget already" in text(act(alice, "budgets", **given))
    act(alice, "budget", made.pk, limit="20", action="notify", thresholds="")
    made.refresh_from_db()
    assert (made.limit_ucr, made.action, made.thresholds) == (20 * UCR, "notify", [])
    act(alice, "budget-remove", made.pk)
    assert not Budget.objects.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"watches": "agent"}, "Say for which one."),
        ({"limit": "many"}, "limit"),
        ({"thresholds": "half"}, "Write percents as numbers"),
        ({"thresholds": "0"}, "each from 1 to 1000"),
    ],
)
def test_a_budget_that_cannot_be_says_why(alice, changes, words):
    given = {"watches": "account", "period": "day", "limit": "10", "action": "block"} | changes

    answer = act(alice, "budgets", **given)

    assert answer.status_code == 422
    assert words in text(answer)


def test_budgets_show_how_they_stand_and_what_was_told(alice):
    said = {"scope": "account", "period": "total", "action": "block", "now": timezone.now()}
    budgets.create(account=alice.account, limit_ucr=100 * UCR, **said)
    cast.charge(alice.account, 60, now=timezone.now())
    with pytest.raises(ledger.BudgetExceeded):
        cast.charge(alice.account, 60, now=timezone.now())

    shown = text(page(alice, "budgets"))

    assert "(60" in shown
    assert "50 % of the budget for everything in total" in shown
    assert Alert.objects.count() == 1


def test_low_credits_are_warned_of_as_the_owner_wants(alice):
    assert "below 250 credits" in text(act(alice, "low-balance", threshold="250"))
    assert "Nobody is warned" in text(act(alice, "low-balance", threshold=""))


def test_staff_play_a_dispute_and_the_customer_sees_it(stella):
    payment = payment_cast.buy(stella.account, 10)
    assert "Dispute it" in text(page(stella, "payment", payment.pk))
    act(stella, "dispute-begin", payment.pk)
    dispute = Dispute.objects.get()
    assert stella.account.name in text(page(stella, "arrears"))

    stella.force_login(stella.account.memberships.get().user)
    assert "Opened" in text(page(stella, "disputes"))
    assert "The simulated gateway says" not in text(page(stella, "dispute", dispute.pk))
    assert act(stella, "dispute-play", dispute.pk, word="won").status_code == 403
    stella.force_login(factories.make_staff())
    act(stella, "dispute-play", dispute.pk, word="lost")

    assert "The payer has the money back" in text(page(stella, "dispute", dispute.pk))
    assert "Lost" in text(page(stella, "payment", payment.pk))


def test_what_cannot_be_disputed_is_refused(stella):
    payment = payment_cast.buy(stella.account, 10, "sim_declined")

    with pytest.raises(payments.GatewayRefused):
        payments.raise_dispute(payment=payment, now=timezone.now())
    assert act(stella, "dispute-play", NO_SUCH, word="won").status_code == 404


NO_SUCH = "0198c0de-0000-7000-8000-000000000000"


@pytest.mark.parametrize(
    "model",
    ["webhookendpoint", "outgoingevent", "webhookdelivery", "budget", "alert", "dunningstep", "dispute"],
)
def test_the_admin_shows_what_was_told_and_no_secret(stella, model):
    endpoint = outgoing_cast.make_endpoint(stella.account, URL)
    outgoing_cast.tell(stella.account)
    payments.raise_dispute(payment=payment_cast.buy(stella.account, 10), now=timezone.now())
    stella.force_login(factories.make_user("Root", is_staff=True, is_superuser=True))

    assert stella.get(f"/admin/billing/{model}/").status_code == 200
    assert stella.get(f"/admin/billing/{model}/add/").status_code == 403
    if model == "webhookendpoint":
        assert endpoint.secret not in text(stella.get(f"/admin/billing/{model}/{endpoint.pk}/change/"))
