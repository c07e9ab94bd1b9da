"""What people do with the product, from the first link to the invoice, in a real browser."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.product import Product

pytestmark = [pytest.mark.browser, pytest.mark.enable_socket]

SAMPLE_SECONDS = 60
BACKTEST_MS = 60_000
OWN_STRATEGY = """\
def positions(prices):
    rising = prices > prices.shift(90)
    return rising / prices.shape[1]
"""
RAISING_STRATEGY = """\
def positions(prices):
    raise ValueError("no prices at full moon")
"""
TICKING = """\
import itertools, time
for number in itertools.count():
    print(f"tick {number}.", flush=True)
    time.sleep(0.2)
"""
GREEDY = {
    "output": ("while True: print('x' * 1000)", "It printed more than its 1024 KB."),
    "memory": ("held = []\nwhile True: held.append(bytearray(8_000_000))", "It needed more than its 512 MB of memory."),
}
PAINTED = """canvas => {
    const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    let drawn = 0;
    for (let at = 3; at < pixels.length; at += 4) drawn += pixels[at] > 0;
    return drawn;
}"""
SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
# How light the page's ground is, from 0 to 255.
GROUND = (
    "Math.max(...getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g).map(Number).slice(0, 3))"
)


def test_the_first_link_leads_to_an_overview_with_key_numbers_and_a_drawn_topology(page: Page, product: Product):
    page.goto("/")
    expect(page).to_have_url(f"{product.url}/o/demo/")
    expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()
    numbers = page.get_by_label("Key numbers").locator(".kpi")
    expect(numbers.filter(has_text="Agents").locator(".value")).to_have_text("13")
    expect(numbers.filter(has_text="Credits available").locator(".value")).to_contain_text("cr")
    graph = page.locator("[data-graph]")
    expect(graph.locator(".graph-note")).to_have_text(re.compile(r"\w+ · \d+ agents · \d+ links"))
    for canvas in graph.locator("canvas").all():
        assert canvas.evaluate(PAINTED) > 500
    expect(page.get_by_role("table").get_by_role("link", name="Trading floor")).to_be_visible()


def test_the_link_works_once(page: Page, product: Product):
    page.context.clear_cookies()
    answer = page.request.get(product.sign_in_url)
    assert answer.status == 410
    assert "This link no longer works" in answer.text()


def test_the_ranked_table_of_the_sample_fills_by_itself_within_a_minute(page: Page, product: Product):
    _open_tab(page, "Trading floor", "Results")
    page.evaluate("window.neverReloaded = true")
    left = SAMPLE_SECONDS - (time.monotonic() - product.ready_at)
    ranked = page.locator("section", has=page.get_by_role("heading", name="Ranked")).locator("tbody tr")
    expect(ranked).to_have_count(9, timeout=left * 1000)
    assert page.evaluate("window.neverReloaded")
    expect(page.locator("svg.chart polyline").first).to_be_visible()
    sharpes = [float(each) for each in ranked.locator("td:nth-of-type(3)").all_inner_texts()]
    assert sharpes == sorted(sharpes, reverse=True)


def test_ones_own_strategy_ends_as_a_result_with_its_curve_and_joins_the_ranked_table_live(
    page: Page, new_page: Callable[[], Page]
):
    watching = new_page()
    _open_tab(watching, "Trading floor", "Results")
    watching.evaluate("window.neverReloaded = true")
    _submit_strategy(page, "my momentum", OWN_STRATEGY)
    expect(_fact(page, "State")).to_have_text("Succeeded", timeout=BACKTEST_MS)
    curve = page.locator("section", has=page.get_by_role("heading", name="Out of sample")).locator("svg.chart:visible")
    expect(curve).to_be_visible()
    stroke = curve.locator(".chart-line-1").first.evaluate("line => getComputedStyle(line).stroke")
    assert stroke not in ("none", "rgb(0, 0, 0)")
    expect(page.get_by_role("row", name="Sharpe ratio")).to_be_visible()
    expect(watching.get_by_role("row", name="my momentum")).to_be_visible()
    assert watching.evaluate("window.neverReloaded")


def test_a_strategy_that_raises_ends_with_its_own_traceback(page: Page):
    _submit_strategy(page, "moonstruck", RAISING_STRATEGY)
    expect(_fact(page, "State")).to_have_text(re.compile("Failed|Dead"), timeout=BACKTEST_MS)
    error = page.locator("section", has=page.get_by_role("heading", name="Error"))
    expect(error).to_contain_text("ValueError: no prices at full moon")
    expect(error).to_contain_text(re.compile(r"line 2, in positions"))


def test_an_endless_execution_streams_while_it_runs_and_stops_when_told(page: Page):
    _run(page, "ticking", TICKING)
    output = page.get_by_role("log", name="Lines")
    expect(output).to_contain_text("tick 2.")
    expect(page.locator("#execution-head .st")).to_have_text("Running")
    expect(output).to_contain_text("tick 8.")
    resources = page.locator("#execution-usage")
    expect(resources.locator("[data-usage-now]")).to_have_text(re.compile(r"CPU \d+ %, memory \d+ MiB, disk 0 MiB"))
    for canvas in resources.locator("canvas").all():
        assert canvas.evaluate(PAINTED) > 100
    resources.locator(".u-over").first.click()
    expect(page.get_by_role("button", name="Follow")).to_have_attribute("aria-pressed", "false")
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop it").click()
    expect(page.locator("#execution-head .st")).to_have_text("Cancelled")
    expect(page.get_by_role("button", name="Run again")).to_be_visible()
    resources.get_by_text("As a table").click()
    expect(resources.locator("details tbody tr").nth(3)).to_contain_text("MiB")
    expect(output).to_contain_text("tick 8.")


@pytest.mark.parametrize("breach", GREEDY)
def test_a_greedy_execution_ends_with_its_breach_in_words(page: Page, breach: str):
    code, words = GREEDY[breach]
    _run(page, f"greedy {breach}", code)
    expect(page.locator("#execution-head .notice")).to_have_text(words)
    expect(page.locator("#execution-head .st")).to_have_text("Failed")
    page.get_by_label("Breadcrumb").get_by_role("link", name="Executions").click()
    expect(page.get_by_role("row", name=f"greedy {breach}").locator(".tag", has_text=breach)).to_be_visible()


def test_another_topology_rewires_the_graph_of_whoever_looks(page: Page, new_page: Callable[[], Page]):
    watching = new_page()
    _open_tab(watching, "Trading floor", "Topology")
    note = watching.locator(".graph-note")
    expect(note).to_have_text("Mesh · 5 agents · 10 links")
    version = _fact(watching, "Version")
    before = int(version.inner_text())
    _open_tab(page, "Trading floor", "Settings")
    page.get_by_label("Topology", exact=True).select_option("ring")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".page-head .facts")).to_contain_text("Ring")
    # The drawing beside the form re-wires itself too, and the history says why.
    expect(page.locator(".graph-note")).to_have_text("Ring · 5 agents · 5 links")
    expect(page.locator("#versions li").first).to_contain_text("re-wired mesh to ring.")
    expect(note).to_have_text("Ring · 5 agents · 5 links")
    expect(version).not_to_have_text(str(before))
    assert int(version.inner_text()) > before


def test_the_navigation_marks_where_a_page_belongs(page: Page):
    places = {"billing/budgets/": "Credits", "billing/payment-methods/": "Payments", "executions/new/": "Executions"}
    for path, line in {**places, "billing/transfers/": "Accounts and money"}.items():
        page.goto(f"/o/demo/{path}")
        expect(page.locator("#nav .links [aria-current]")).to_have_text([line])


def test_an_owner_invites_a_member(page: Page):
    page.goto("/o/demo/settings/members/")
    page.get_by_label("E-mail").fill("bob@example.com")
    page.get_by_label("Role", exact=True).select_option("viewer")
    page.get_by_role("button", name="Invite").click()
    expect(page.get_by_text("An invitation is on its way to bob@example.com.")).to_be_visible()
    invited = page.get_by_role("row", name="bob@example.com")
    expect(invited).to_contain_text("Viewer")


def test_an_api_key_is_shown_once_can_be_copied_and_works(page: Page, context: BrowserContext, product: Product):
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto("/o/demo/developers/api-keys/")
    page.get_by_label("Name").fill("prod-bot")
    page.get_by_label("Federations, agents and tasks: read").check()
    page.get_by_role("button", name="Create the key").click()
    page.get_by_role("button", name="Copy the key").click()
    secret = page.locator(".copy code").inner_text()
    page.wait_for_function("secret => navigator.clipboard.readText().then(text => text === secret)", arg=secret)
    status, answer = product.call("GET", "federations", secret)
    assert (status, len(answer["results"])) == (200, 2)
    page.goto("/o/demo/developers/api-keys/")
    expect(page.get_by_role("row", name="prod-bot")).to_be_visible()
    assert secret not in page.content()


def test_the_credits_page_knows_what_was_spent_and_the_invoice_preview_adds_up(page: Page):
    page.goto("/o/demo/billing/")
    spent = page.locator(".kpi", has_text="This period").locator(".value")
    assert _amount(spent) > 0
    expect(page.get_by_role("row", name="Sandbox time").first).to_be_visible()
    page.goto("/o/demo/billing/invoices/preview/")
    invoice = page.locator("article.invoice")
    lines = [_amount(cell) for cell in invoice.locator("tbody tr td:last-child").all()]
    assert len(lines) >= 2
    totals = {
        term.inner_text().split()[0]: _amount(term.locator("xpath=following-sibling::dd[1]"))
        for term in invoice.locator(".totals dt").all()
    }
    assert sum(lines) == totals["Subtotal"] > 0
    assert totals["Subtotal"] + totals.get("Tax", 0) == totals["Total"]
    assert totals["Total"] - abs(totals["Credits"]) == totals["Amount"]


@pytest.mark.parametrize("width", [1440, 390])
def test_every_page_fits_in_both_themes_and_nothing_complains(page: Page, product: Product, width: int):
    page.set_viewport_size({"width": width, "height": 844})
    faults = []
    for path, answer in _walk(page, product):
        if answer != 200:
            faults.append((path, answer))
        if page.evaluate(SIDEWAYS) > 0:
            faults.append((path, "scrolls sideways"))
        if path == "/admin/":
            continue  # Django's own pages have their own look
        for theme, fits in (("dark", range(0, 80)), ("light", range(200, 256))):
            page.emulate_media(color_scheme=theme)
            if page.evaluate(GROUND) not in fits:
                faults.append((path, f"is not {theme}"))
        if page.locator("h1").count() != 1:
            faults.append((path, "has not one h1"))
    assert faults == []


def _walk(page: Page, product: Product) -> Iterator[tuple[str, int]]:
    """Every page that a link of the navigation or of a page leads to, one of each kind."""
    known, waiting = set(), ["/o/demo/", "/me/"]
    while waiting:
        path = waiting.pop(0)
        answer = page.goto(path)
        assert answer is not None
        for link in page.eval_on_selector_all(
            "#nav a[href], main a[href]:not([download])", "all => all.map(a => a.href)"
        ):
            found = link.removeprefix(product.url).split("?")[0].split("#")[0]
            kind = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "<id>", found)
            if found.startswith("/") and kind not in known and not re.match("/(admin/.|api/v1/)|.*[.]csv$", found):
                known.add(kind)
                waiting.append(found)
        yield path, answer.status
    assert len(known) >= 40


def _open_tab(page: Page, federation: str, tab: str) -> None:
    page.goto("/o/demo/federations/")
    page.get_by_role("link", name=federation, exact=True).click()
    page.get_by_label(federation, exact=True).get_by_role("link", name=tab).click()
    expect(page.locator(".tabs [aria-current]")).to_contain_text(tab)


def _submit_strategy(page: Page, name: str, code: str) -> None:
    _open_tab(page, "Trading floor", "Topology")
    page.get_by_role("link", name="Your strategy").click()
    page.get_by_label("Name").fill(name)
    page.get_by_label("Code").fill(code)
    page.get_by_role("button", name="Backtest").click()
    expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()


def _run(page: Page, name: str, code: str) -> None:
    page.goto("/o/demo/executions/new/")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Code").fill(code)
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()


def _fact(page: Page, name: str) -> Locator:
    return page.locator(f"dl dt:text-is('{name}') + dd")


def _amount(shown: Locator) -> Decimal:
    return Decimal(re.sub(r"[^0-9.]", "", shown.inner_text().replace("−", "-").lstrip("-")))
