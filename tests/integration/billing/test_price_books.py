"""Price books: drafted, compared with what was charged, published for good, and ended for one account."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import DatabaseError, connection, transaction
from django.urls import reverse
from django.utils import timezone

from billing import books, price_drafts, pricing, what_if
from billing.models import PriceBook, PriceDraft
from billing.pricing import Price, Shape, Tier
from tests import factories
from tests import ledger_cast as cast
from tests.ledger_cast import NOON, UCR

pytestmark = pytest.mark.django_db
MARCH = date(2026, 3, 1)
DEAR = Price("mcp_call", Shape.PER_UNIT, 3 * UCR, name="MCP calls", unit="call")
TIERED = Price(
    "mcp_call", Shape.GRADUATED, name="MCP calls", unit="call", tiers=(Tier(Decimal(10), 2 * UCR), Tier(None, UCR))
)


def compare(price, account=None):
    return what_if.compare(prices=[price], first_day=MARCH, now=NOON, account_id=account and account.pk)


def test_a_draft_begins_with_the_prices_of_now_and_costs_nobody_anything():
    draft = price_drafts.start(account=None, now=NOON)

    assert {row["meter"] for row in draft.prices} == set(pricing.Meter)
    price_drafts.save(draft_id=draft.pk, name="Dear", prices=[DEAR], version=1, now=NOON)
    assert cast.use(cast.make_account(100), "mcp_call", 1).cost_ucr == UCR


def test_who_saves_or_publishes_second_is_told():
    draft = price_drafts.start(account=None, now=NOON)
    price_drafts.save(draft_id=draft.pk, name="A", prices=[DEAR], version=1, now=NOON)

    with pytest.raises(price_drafts.DraftChanged):
        price_drafts.save(draft_id=draft.pk, name="B", prices=[DEAR], version=1, now=NOON)
    with pytest.raises(price_drafts.DraftChanged):
        price_drafts.publish(draft_id=draft.pk, version=1, valid_from=NOON, now=NOON)
    assert PriceDraft.objects.get().name == "A"


def test_a_published_draft_is_the_next_version_from_its_date_on():
    draft = price_drafts.start(account=None, now=NOON)
    prices = [DEAR, *(price for price in price_drafts.prices_of(draft) if price.meter != "mcp_call")]
    price_drafts.save(draft_id=draft.pk, name="Next", prices=prices, version=1, now=NOON)

    book = price_drafts.publish(draft_id=draft.pk, version=2, valid_from=NOON + timedelta(days=1), now=NOON)

    account = cast.make_account(100)
    costs = [cast.use(account, "mcp_call", 1, now=NOON + timedelta(days=days)).cost_ucr // UCR for days in (0, 1)]
    assert (book.version, costs, PriceDraft.objects.count()) == (2, [1, 3], 0)


def test_an_accounts_own_prices_hold_for_it_alone_until_they_end():
    mine, other = cast.make_account(100), cast.make_account(100)
    book = books.publish_next(name="Mine", prices=[DEAR], valid_from=NOON, now=NOON, account_id=mine.pk)
    during = [cast.use(account, "mcp_call", 1).cost_ucr // UCR for account in (mine, other)]
    books.end(book_id=book.pk, at=NOON + timedelta(days=1), now=NOON)
    after = cast.use(mine, "mcp_call", 1, now=NOON + timedelta(days=1))

    assert (during, after.cost_ucr // UCR) == ([3, 1], 1)
    assert books.price_of(account_id=mine.pk, meter="mcp_call", at=NOON + timedelta(days=2)).amount_ucr == UCR
    with pytest.raises(books.BadPrices):
        books.end(book_id=book.pk, at=NOON + timedelta(days=1), now=NOON)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"valid_from": NOON - timedelta(seconds=1)}, "from now on"),
        ({"prices": [DEAR]}, "each meter"),
        ({"prices": []}, "needs a price"),
        ({"prices": [Price("mcp_call", Shape.VOLUME)]}, "last tier"),
    ],
)
def test_a_book_that_could_not_be_charged_by_is_refused(changes, says):
    wanted = {"name": "x", "prices": pricing.DEFAULT_BOOK.values(), "valid_from": NOON, "now": NOON} | changes

    with pytest.raises(books.BadPrices, match=says):
        books.publish_next(**wanted)
    assert not PriceBook.objects.filter(name="x").exists()


def test_two_books_never_begin_at_the_same_moment():
    wanted = {"name": "x", "prices": pricing.DEFAULT_BOOK.values(), "valid_from": NOON, "now": NOON}
    books.publish_next(**wanted)

    with pytest.raises(books.BadPrices, match="that very moment"):
        books.publish_next(**wanted)


@pytest.mark.parametrize("change", ["update billing_pricebook set valid_from = now()", "delete from billing_pricebook"])
def test_a_published_book_cannot_be_changed(change):
    books.publish_default()

    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(change)


def test_what_a_month_would_have_cost_is_what_it_costs_when_the_prices_had_held():
    account = cast.make_account(1000, billing_period="daily")
    for day in (1, 1, 18, 31):
        cast.use(account, "mcp_call", 8, now=datetime(2026, 3, day, 12, tzinfo=UTC))
    cast.use(account, "mcp_call", 500, now=datetime(2026, 4, 1, tzinfo=UTC))
    found = compare(TIERED)

    paying = cast.make_account(1000, billing_period="daily")
    books.publish_next(
        name="t",
        prices=[TIERED],
        valid_from=NOON - timedelta(days=40),
        now=NOON - timedelta(days=40),
        account_id=paying.pk,
    )
    paid = sum(
        cast.use(paying, "mcp_call", 8, now=datetime(2026, 3, day, 12, tzinfo=UTC)).cost_ucr for day in (1, 1, 18, 31)
    )
    assert (found.total.was_ucr, found.total.would_ucr) == (32 * UCR, paid)


def test_a_year_long_account_pays_a_month_of_its_year():
    account = cast.make_account(1000, billing_period="yearly")
    for month in (1, 3):
        cast.use(account, "mcp_call", 8, now=datetime(2026, month, 18, tzinfo=UTC))

    assert compare(TIERED).total.would_ucr == (2 * 2 + 6 * 1) * UCR


def test_months_are_those_of_each_accounts_clock():
    account = cast.make_account(1000, time_zone="Pacific/Auckland")
    cast.use(account, "mcp_call", 1, now=datetime(2026, 2, 28, 12, tzinfo=UTC))
    cast.use(account, "mcp_call", 10, now=datetime(2026, 3, 31, 12, tzinfo=UTC))

    assert compare(DEAR).total.quantity == 1


def test_everybodys_draft_leaves_own_prices_and_an_accounts_draft_leaves_the_others():
    mine, other = cast.make_account(1000), cast.make_account(1000)
    start = NOON - timedelta(days=1)
    books.publish_next(
        name="m", prices=[Price("mcp_call", Shape.PER_UNIT, 2 * UCR)], valid_from=start, now=start, account_id=mine.pk
    )
    for account in (mine, other):
        cast.use(account, "mcp_call", 10)

    assert {account: costs.would_ucr // UCR for account, costs in compare(DEAR).accounts} == {mine: 20, other: 30}
    assert {account: costs.would_ucr // UCR for account, costs in compare(DEAR, mine).accounts} == {mine: 30}


@pytest.fixture
def stella(client):
    client.account = cast.make_account(1000)
    client.force_login(factories.make_staff())
    return client


def at(client, name, *args):
    return reverse(f"billing:{name}", args=[client.account, *args])


def filled(answer, **changes):
    editor = answer.context["editor"]
    given = {form.add_prefix(name): value for form in editor.meters for name, value in form.initial.items()}
    return {**given, **editor.head.initial, **changes}


def test_staff_draft_compare_and_publish(stella):
    cast.use(stella.account, "mcp_call", 10, now=timezone.now().replace(day=1) - timedelta(days=1))
    stella.post(at(stella, "price-draft-new"))
    draft = PriceDraft.objects.get()
    page = stella.get(at(stella, "price-draft", draft.pk))

    stella.post(at(stella, "price-draft", draft.pk), filled(page, **{"mcp_call-credits": "3", "name": "Dear"}))
    compared = stella.get(at(stella, "price-compare", draft.pk))
    stella.post(at(stella, "price-publish", draft.pk), {"version": "2", "valid_from": ""})

    assert (compared.context["comparison"].total.would_ucr, compared.status_code) == (30 * UCR, 200)
    book = PriceBook.objects.get(name="Dear")
    assert (book.version, book.prices.get(meter="mcp_call").amount_ucr) == (2, 3 * UCR)
    assert "Dear, version 2" in stella.get(at(stella, "price-books")).content.decode()
    assert stella.get(at(stella, "price-book", book.pk)).status_code == 200


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"mcp_call-credits": "-1"}, "decimal string of credits"),
        ({"mcp_call-per": "0"}, "Must be more than 0"),
        ({"mcp_call-shape": "graduated", "mcp_call-tiers": ""}, "last tier must be without end"),
        ({"mcp_call-shape": "volume", "mcp_call-tiers": "10 | 1\n5 | 1\nrest | 1"}, "rising quantities"),
        ({"mcp_call-shape": "volume", "mcp_call-tiers": "ten | 1"}, "Line 1"),
        ({"mcp_call-minimum": "NaN"}, "decimal string of credits"),
        ({"name": ""}, "required"),
    ],
)
def test_what_is_wrong_is_said_beside_its_field_and_nothing_is_kept(stella, wrong, says):
    draft = price_drafts.start(account=None, now=NOON)
    page = stella.get(at(stella, "price-draft", draft.pk))

    answer = stella.post(at(stella, "price-draft", draft.pk), filled(page, **wrong))

    assert answer.status_code == 422
    assert says in answer.content.decode()
    assert PriceDraft.objects.get().version == 1


def test_an_accounts_own_draft_starts_empty_and_its_book_can_be_ended(stella):
    stella.post(at(stella, "price-draft-new"), {"own": "1"})
    draft = PriceDraft.objects.get()
    assert (draft.account, draft.prices) == (stella.account, [])
    price_drafts.save(draft_id=draft.pk, name="Own", prices=[DEAR], version=1, now=NOON)
    stella.post(at(stella, "price-publish", draft.pk), {"version": "2"})
    book = PriceBook.objects.get(name="Own")

    stella.post(at(stella, "price-book-end", book.pk))

    book.refresh_from_db()
    assert book.valid_until is not None


def test_a_price_typed_for_what_is_not_in_the_book_is_not_lost_without_a_word(stella):
    draft = price_drafts.start(account=stella.account, now=NOON)
    page = stella.get(at(stella, "price-draft", draft.pk))

    answer = stella.post(at(stella, "price-draft", draft.pk), filled(page, **{"inference-credits": "12.5"}))

    assert answer.status_code == 422
    assert "Choose how it is priced" in answer.content.decode()
    assert "12.5" in answer.content.decode()


def test_a_draft_that_is_discarded_is_gone(stella):
    draft = price_drafts.start(account=None, now=NOON)
    stella.post(at(stella, "price-discard", draft.pk))

    assert not PriceDraft.objects.exists()
