"""The whole product with its sample, and a Chromium that looks at it. Console errors fail the test."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests import bank_cast
from tests.product import Product, free_port, share_libraries

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HERE = Path(__file__).parent
BANK = {"BANK_IBAN": bank_cast.IBAN, "BANK_BIC": "COBADEFFXXX", "BANK_ACCOUNT_HOLDER": "ntd GmbH"}
ALL_WAITS_MS = 30_000
# A bound and not a wait: the sample runs while the first journeys do.
expect.set_options(timeout=ALL_WAITS_MS)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In the order written, never shuffled: the sample is watched while it runs, then people change things."""
    ours = [number for number, item in enumerate(items) if item.path.parent == HERE]
    written = sorted(
        (items[number] for number in ours), key=lambda item: (item.path, item.function.__code__.co_firstlineno)
    )
    for number, item in zip(ours, written, strict=True):
        items[number] = item


# One for all journeys: they have accounts of their own.
@pytest.fixture(scope="package")
def product() -> Iterator[Product]:
    with tempfile.TemporaryDirectory(prefix="ntd-browser-") as folder:
        running = Product(Path(folder), free_port())
        running.environment |= BANK
        share_libraries(running.home)
        running.sign_in_url = running.start()["sign_in_url"]
        running.ready_at = time.monotonic()
        try:
            yield running
        finally:
            running.stop()


# For the module alone: Playwright keeps an event loop running in this thread, which other tests must not meet.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        if os.environ.get("NTD_REQUIRE_BROWSER") == "1":
            pytest.fail("There is no Chromium, and NTD_REQUIRE_BROWSER=1 asks for it.")
        pytest.skip("needs an installed Chromium (apt install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def signed_in(product: Product, chromium: Browser) -> Iterator[dict[str, object]]:
    """The cookies of the first operator, taken once: the link works once."""
    context = chromium.new_context(base_url=product.url)
    page = context.new_page()
    page.goto(product.sign_in_url)
    page.wait_for_url("**/o/demo/")
    yield context.storage_state()
    context.close()


@pytest.fixture
def context(product: Product, chromium: Browser, signed_in: dict[str, object]) -> Iterator[BrowserContext]:
    opened = chromium.new_context(
        base_url=product.url, storage_state=signed_in, viewport={"width": 1440, "height": 900}
    )
    opened.set_default_timeout(ALL_WAITS_MS)
    yield opened
    opened.close()


@pytest.fixture
def new_page(context: BrowserContext) -> Iterator[Callable[[], Page]]:
    """Opens tabs of one browser. What any of them complains about (the content policy too) fails the test."""
    complaints: list[str] = []

    def opened() -> Page:
        page = context.new_page()
        page.on("console", lambda said: complaints.append(f"{page.url}: {said.text}") if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
        return page

    yield opened
    assert complaints == []


@pytest.fixture
def page(new_page: Callable[[], Page]) -> Page:
    return new_page()
