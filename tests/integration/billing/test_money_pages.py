from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from billing import ledger
from billing.models import Account, Grant, Invoice, Transaction
from tests import factories, payment_cast
from tests import ledger_cast as cast
from tests.ledger_cast import UCR
from tests.page_cast import act, page

pytestmark = pytest.mark.django_db
PAGES = ["overview", "usage", "credits", "invoices", "invoice-preview", "usage-export"]
STAFFS = ["staff-accounts", "books", "adjust"]


@pytest.mark.parametrize("name", PAGES)
def test_every_page_opens_for_a_new_account_and_for_a_busy_one(alice, name):
    assert page(alice, name).status_code == 200

    now = timezone.now()
    for meter in ("mcp_call", "sandbox_second", "data_byte"):
        cast.use(alice.account, meter, 500, now=now, agent="alpha")
    cast.hold(alice.account, 5, now=now, expires_at=now + timedelta(hours=1), purpose="Backtest")
    cast.give(alice.account, 5, now=now, expires_at=now + timedelta(days=3))

    assert page(alice, name).status_code == 200


@pytest.mark.parametrize("name", PAGES)
def test_pages_stay_readable_when_the_account_is_suspended(alice, name):
    alice.account.status = "suspended"
    alice.account.save(update_fields=["status"])

    assert page(alice, name).status_code == 200


@pytest.mark.parametrize("name", [*PAGES, *STAFFS])
def test_an_outsider_finds_nothing(alice, client, name):
    client.force_login(factories.make_user("Charlie"))

    assert page(alice, name).status_code == 404


@pytest.mark.parametrize("name", STAFFS)
def test_staffs_pages_are_staffs(alice, name):
    assert page(alice, name).status_code == 403


@pytest.mark.parametrize("name", STAFFS)
def test_staffs_pages_open_for_staff(stella, name):
    assert page(stella, name).status_code == 200


def grow_old(account, days=30):
    Account.objects.filter(pk=account.pk).update(created_at=timezone.now() - timedelta(days=days))


@pytest.mark.parametrize(("days", "a_day"), [(0, 70), (1, 70), (2, 35), (7, 10), (400, 10)])
def test_a_young_account_burns_by_the_days_it_has_had(alice, days, a_day):
    grow_old(alice.account, days)
    cast.use(alice.account, "mcp_call", 70, now=timezone.now())

    assert page(alice, "overview").context["outlook"].burn_ucr_a_day == pytest.approx(a_day * UCR, rel=0.001)


def test_the_overview_says_what_is_there_and_how_long_it_lasts(alice):
    now = timezone.now()
    grow_old(alice.account)
    cast.charge(alice.account, 10, now=now)
    cast.use(alice.account, "mcp_call", 70, now=now)

    answer = page(alice, "overview")

    outlook = answer.context["outlook"]
    assert (outlook.balance.available_ucr, outlook.burn_ucr_a_day, outlook.days_left) == (920 * UCR, 10 * UCR, 92)
    assert "920.00" in answer.content.decode()


@pytest.mark.parametrize(
    ("spent", "used", "says"),
    [
        (0, 0, "nothing is burning"),
        (0, 1, "years"),
        (1000, 0, "nothing is burning"),
        (930, 70, "nothing is left"),
        (925, 70, "today at this pace"),
    ],
)
def test_the_overview_says_in_words_when_credits_run_out(alice, spent, used, says):
    now = timezone.now()
    grow_old(alice.account)
    if used:
        cast.use(alice.account, "mcp_call", used, now=now)
    if spent:
        cast.charge(alice.account, spent, now=now)

    assert says in page(alice, "overview", part="balance").content.decode()


@pytest.mark.parametrize(("part", "element"), [("balance", 'id="balance"'), ("statement", 'id="statement"')])
def test_a_nudge_fetches_one_piece_of_the_overview(alice, part, element):
    answer = page(alice, "overview", part=part).content.decode()

    assert element in answer
    assert "<html" not in answer


def test_usage_is_drawn_by_day_and_summed_by_meter_and_agent(alice):
    now = timezone.now()
    cast.use(alice.account, "mcp_call", 3, now=now, agent="alpha")
    cast.use(alice.account, "sandbox_second", 3600, now=now)

    answer = page(alice, "usage")

    assert [(row["name"], row["shown"], row["unit"]) for row in answer.context["rows"]] == [
        ("MCP calls", 3, "call"),
        ("Sandbox time", 1, "hour"),
    ]
    assert [row["agent"] for row in answer.context["agents"]] == ["alpha"]
    assert len(answer.context["bars"].parts) == 2


@pytest.mark.parametrize("query", [{"start": "x"}, {"start": "2026-03-02", "end": "2026-03-01"}, {"meter": "minutes"}])
def test_bad_filters_are_said_and_not_drawn(alice, query):
    assert page(alice, "usage", **query).status_code == 422


def test_a_line_of_the_statement_leads_to_where_it_comes_from(alice):
    record = cast.use(alice.account, "mcp_call", 3, now=timezone.now(), agent="alpha", source="execution:7")
    address = reverse("billing:transaction", args=[alice.account, record.transaction_id])

    assert address in page(alice, "credits").content.decode()
    answer = alice.get(address).content.decode()

    assert "alpha" in answer
    assert "usage:execution:7" in answer
    assert "revenue:mcp_call" not in answer  # the house's own leg


def test_another_accounts_transaction_is_404(alice):
    other = Transaction.objects.get(account=cast.make_account(10))

    assert page(alice, "transaction", other.pk).status_code == 404


def test_a_long_statement_has_pages(alice):
    for _ in range(60):
        cast.charge(alice.account, 1)

    first, second = page(alice, "credits"), page(alice, "credits", page="2")

    assert (len(first.context["page"].results), len(second.context["page"].results)) == (50, 11)
    assert first.context["page"].next_url == "?page=2"
    assert page(alice, "credits", page="many").status_code == 200


def test_staff_draft_finalize_and_see_an_invoice(stella):
    cast.use(stella.account, "mcp_call", 250)
    act(stella, "invoice-generate", first_day="2026-03-01", last_day="2026-03-31")
    draft = Invoice.objects.get(account=stella.account)
    assert (draft.total, draft.period_end.day) == (250, 1)

    act(stella, "invoice-finalize", draft.pk)

    draft.refresh_from_db()
    assert draft.state == "paid"
    shown = page(stella, "invoice", draft.pk).content.decode()
    assert draft.number in shown
    assert "2.50" in shown


def test_staff_void_and_mark_paid(stella):
    ledger.set_overdraft(account_id=stella.account.pk, overdraft_ucr=500 * UCR)
    cast.use(stella.account, "mcp_call", 1250)
    for done in ("invoice-void", "invoice-mark-paid"):
        act(stella, "invoice-generate", first_day="2026-03-01", last_day="2026-03-31")
        draft = Invoice.objects.get(account=stella.account, state="draft")
        act(stella, "invoice-finalize", draft.pk)
        assert page(stella, "invoice", draft.pk).status_code == 200
        act(stella, done, draft.pk)

    assert set(Invoice.objects.filter(account=stella.account).values_list("state", flat=True)) == {"void", "paid"}
    assert page(stella, "invoices", state="void").content.decode().count("<tr id=") == 1


def test_a_final_period_cannot_be_drafted_again_and_the_page_says_so(stella):
    act(stella, "invoice-generate", first_day="2026-03-01", last_day="2026-03-31")
    act(stella, "invoice-finalize", Invoice.objects.get(account=stella.account).pk)

    answer = act(stella, "invoice-generate", first_day="2026-03-05", last_day="2026-03-06")

    assert answer.status_code == 409
    assert "covers part of this period" in answer.content.decode()


@pytest.mark.parametrize("name", ["invoice-finalize", "invoice-void", "invoice-mark-paid"])
def test_customers_do_not_decide_about_invoices(alice, name):
    cast.use(alice.account, "mcp_call", 1)
    invoice = Invoice.objects.create(
        account=alice.account, currency="EUR", period_start=cast.NOON, period_end=timezone.now(), created_at=cast.NOON
    )

    assert act(alice, name, invoice.pk).status_code == 403
    assert "Finalize" not in page(alice, "invoice", invoice.pk).content.decode()


def test_staff_give_credits_with_a_reason_once(stella):
    form = page(stella, "adjust").context["form"]
    given = {"credits": "12.5", "category": "adjust", "reason": "Apology", "key": str(form.initial["key"])}

    for _ in range(2):
        act(stella, "adjust", **given)

    grant = Grant.objects.get(account=stella.account, category="adjust")
    assert (grant.amount_ucr, grant.reason) == (12_500_000, "Apology")
    assert grant.transaction.actor.startswith("user:")


@pytest.mark.parametrize("wrong", [{"credits": "-1"}, {"credits": "x"}, {"reason": ""}, {"category": "signup"}])
def test_a_bad_adjustment_is_shown_again_and_gives_nothing(stella, wrong):
    given = {"credits": "1", "category": "adjust", "reason": "why", "key": "0198a1b2-0000-7000-8000-000000000000"}

    assert act(stella, "adjust", **given | wrong).status_code == 422
    assert Grant.objects.filter(account=stella.account).count() == 1


@pytest.mark.parametrize(("name", "most"), [("overview", 20), ("credits", 13), ("usage", 13), ("invoices", 11)])
def test_pages_take_few_queries_however_much_there_is(alice, name, most, django_assert_max_num_queries):
    now = timezone.now()
    for _ in range(10):
        cast.use(alice.account, "mcp_call", 1, now=now, agent="alpha")
        cast.give(alice.account, 1, now=now)
    page(alice, name)

    with django_assert_max_num_queries(most):
        page(alice, name)


BOOKS = [
    "transaction",
    "entry",
    "usagerecord",
    "invoice",
    "creditnote",
    "creditnoteline",
    "pricedraft",
    "ledgeraccount",
    "hold",
    "grant",
]
PAYMENTS = ["payment", "refund", "paymentevent", "paymentmethod", "gatewaywebhook", "autotopup"]


@pytest.mark.parametrize("model", [*BOOKS, *PAYMENTS])
def test_the_admin_shows_the_books_and_changes_nothing(stella, model):
    account = stella.account
    cast.use(account, "mcp_call", 1)
    cast.hold(account, 1)
    payment_cast.buy(account, 10)
    payment_cast.deliver(payment_cast.event("nobody"))
    stella.force_login(factories.make_user("Root", is_staff=True, is_superuser=True))

    assert stella.get(f"/admin/billing/{model}/").status_code == 200
    assert stella.get(f"/admin/billing/{model}/add/").status_code == 403
