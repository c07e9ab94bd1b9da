"""What a customer's money does, from the first credits to the last dispute, in a real browser; staff are in another."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests import bank_cast
from tests.product import Product

pytestmark = [pytest.mark.browser, pytest.mark.enable_socket]

USED = 1500  # credits, of last month: more than the account has by then


@pytest.fixture(scope="module")
def alice(product: Product) -> dict[str, str]:
    return product.account("Acme Capital")


@pytest.fixture(scope="module")
def open_as(product: Product, chromium: Browser, alice: dict[str, str]) -> Iterator[Callable[[str], Page]]:
    """A page of whoever is named. What any of them complains about fails the last test."""
    people = {"alice": alice, "stella": product.account("House", "--staff")}
    complaints: list[str] = []
    contexts = {}
    for name, account in people.items():
        contexts[name] = chromium.new_context(base_url=product.url, viewport={"width": 1440, "height": 900})
        page = contexts[name].new_page()
        page.goto(account["sign_in_url"])
        page.wait_for_url("**/o/**")
        page.close()

    def opened(name: str) -> Page:
        page = contexts[name].new_page()
        page.on("console", lambda said: complaints.append(f"{page.url}: {said.text}") if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
        return page

    yield opened
    for context in contexts.values():
        context.close()
    assert complaints == []


@pytest.fixture
def page(open_as: Callable[[str], Page]) -> Iterator[Page]:
    opened = open_as("alice")
    yield opened
    opened.close()


@pytest.fixture
def staff(open_as: Callable[[str], Page]) -> Iterator[Page]:
    opened = open_as("stella")
    yield opened
    opened.close()


def test_a_new_account_has_1000_credits_a_declined_card_adds_none_and_a_good_one_250(page: Page):
    _has(page, "1,000.00 cr")
    _top_up(page, "100", "sim_declined")
    expect(page.locator(".notice.error")).to_contain_text("The card was declined. Nothing was charged")
    page.get_by_role("link", name="Try another way").click()
    _top_up(page, "250", "sim_ok")
    expect(page.locator(".notice.success")).to_contain_text("Paid. 250.00 cr were added.")
    _has(page, "1,250.00 cr")


def test_a_lost_answer_warns_of_paying_twice_and_is_found_by_asking(page: Page):
    _top_up(page, "50", "sim_unknown")
    expect(page.locator(".notice.warning")).to_contain_text("It is not known yet whether the money was taken.")
    page.get_by_role("button", name="Ask the gateway now").click()
    expect(page.locator(".notice.success")).to_contain_text("Paid. 50.00 cr were added.")


def test_a_payment_to_confirm_waits_at_the_bank_s_page(page: Page):
    _top_up(page, "50", "sim_action_required")
    page.get_by_role("link", name="Go to the bank's page").click()
    page.get_by_role("button", name=re.compile("Confirm|Approve|Pay")).click()
    expect(page.locator(".notice.success")).to_contain_text("Paid. 50.00 cr were added.")
    _has(page, "1,350.00 cr")


def test_usage_beyond_the_credits_becomes_an_invoice_that_the_customer_pays(
    page: Page, staff: Page, product: Product, alice: dict[str, str]
):
    staff.goto("/o/acme-capital/billing/terms/")
    staff.get_by_label("Overdraft").fill("1000")
    staff.get_by_role("button", name="Change the terms").click()
    _use(product, alice["api_key"])
    staff.goto("/o/acme-capital/billing/invoices/")
    staff.get_by_role("button", name="Invoice the last period that is over").click()
    staff.get_by_role("dialog").get_by_role("button", name="Invoice it").click()
    expect(staff.locator(".page-head .facts")).to_contain_text("Open")

    page.goto("/o/acme-capital/billing/invoices/")
    page.locator("#list tbody").get_by_role("link").first.click()
    expect(page.locator("article.invoice")).to_contain_text("15.00")
    with page.expect_download() as paper:
        page.get_by_role("link", name="PDF").click()
    assert Path(paper.value.path()).read_bytes()[:5] == b"%PDF-"
    page.get_by_role("link", name=re.compile("Pay 1.50")).click()
    page.get_by_label("Pay with").select_option("sim_ok")
    page.get_by_role("button", name=re.compile("Pay 1.50")).click()
    expect(page.locator(".notice.success")).to_contain_text("Paid. 150.00 cr of the overdraft are repaid.")
    page.goto("/o/acme-capital/billing/invoices/")
    expect(page.locator("#list tbody tr")).to_contain_text("Paid")


def test_staff_refund_a_payment_and_the_customer_sees_it_happen(page: Page, staff: Page):
    # The oldest credits are spent first: what calls of keys cost meanwhile comes out of these.
    _top_up(page, "10", "sim_ok")
    _top_up(page, "80", "sim_ok")
    staff.goto(page.url)
    staff.get_by_label("Reason").fill("Ordered twice")
    staff.get_by_label("Reason").blur()
    # The page hears of the payment, and what was typed stays.
    staff.evaluate("name => htmx.trigger(document.body, name, {live: true})", f"payment-{page.url.split('/')[-2]}")
    staff.wait_for_timeout(150)
    staff.get_by_role("button", name="Refund", exact=True).click()
    staff.get_by_role("dialog").get_by_role("button", name="Refund it").click()
    expect(staff.locator("section", has=staff.get_by_role("heading", name="Refunds"))).to_contain_text("Ordered twice")
    # Nobody reloads the customer's page.
    expect(page.locator(".page-head .facts")).to_contain_text("0.80 EUR refunded")


def test_a_bank_transfer_counts_when_the_statement_says_that_it_came(page: Page, staff: Page):
    _top_up(page, "500", "bank_transfer")
    reference = page.locator(".field", has_text="Reference").locator("code").inner_text().replace(" ", "")
    staff.goto("/o/house/billing/bank/import/")
    staff.locator("input[type=file]").set_input_files(
        {"name": "s.xml", "mimeType": "text/xml", "buffer": bank_cast.camt([bank_cast.entry("5.00", reference)])}
    )
    staff.get_by_role("button", name="Import").click()
    expect(staff.get_by_text("1 matched by themselves.")).to_be_visible()
    expect(page.locator(".notice.success")).to_contain_text("Paid. 500.00 cr were added.")


def test_a_lost_dispute_takes_the_credits_it_bought(page: Page, staff: Page):
    before = _has(page, re.compile("cr"))
    _top_up(page, "60", "sim_ok")
    staff.goto(page.url)
    staff.get_by_role("button", name="Dispute it").click()
    staff.get_by_role("dialog").get_by_role("button", name="Dispute it").click()
    staff.locator("#list tbody").get_by_role("link").first.click()
    staff.get_by_role("button", name="Lost").click()
    expect(staff.locator("main .notice")).to_contain_text("The payer has the money back.")
    expect(page.locator("section", has=page.get_by_role("heading", name="Disputes"))).to_contain_text("Lost")
    # A call of a key that another test made may be charged meanwhile.
    assert abs(_number(_has(page, re.compile("cr"))) - _number(before)) < 1


def test_the_books_are_in_order_after_all_of_it(page: Page, staff: Page):
    staff.goto("/o/house/billing/books/")
    expect(staff.locator(".page-head .facts")).to_contain_text("In order")
    page.goto("/o/acme-capital/billing/credits/")
    balances = page.locator("#statement tbody td:last-child")
    expect(balances.last).to_have_text(re.compile("1,000.00"))
    page.goto("/o/acme-capital/billing/usage/?start=" + f"{_last_month().date():%Y-%m-01}")
    expect(page.get_by_role("row", name="Inferences")).to_contain_text("1,500.00")


def _has(page: Page, credits: object) -> str:
    """What is available, as the overview says it."""
    page.goto("/o/acme-capital/billing/")
    available = page.locator(".kpi", has_text="Available").locator(".value")
    expect(available).to_have_text(credits)
    return available.inner_text()


def _number(credits: str) -> float:
    return float(re.sub(r"[^\d.]", "", credits))


def _top_up(page: Page, credits: str, method: str) -> None:
    page.goto("/o/acme-capital/billing/top-up/")
    page.get_by_label("Credits", exact=True).fill(credits)
    page.get_by_label("Pay with").select_option(method)
    page.get_by_role("button", name="Review the payment").click()
    page.get_by_role("button", name=re.compile("^Pay ")).click()
    page.wait_for_url("**/billing/payments/*/")


def _last_month() -> datetime:
    return datetime.now(UTC).replace(day=1, hour=12) - timedelta(days=1)


def _use(product: Product, key: str) -> None:
    event = {"id": "work", "source": "journey", "meter": "inference", "quantity": str(USED // 10)}
    event["occurred_at"] = _last_month().isoformat()
    status, answer = product.call("POST", "usage/events", key, event, once=f"work-{time.time()}")
    assert status == 201, answer
