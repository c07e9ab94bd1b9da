"""The whole product with its sample, and a Chromium that looks at it. Console errors fail the test."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.product import Product, free_port

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def product() -> Iterator[Product]:
    with tempfile.TemporaryDirectory(prefix="ntd-browser-") as folder:
        running = Product(Path(folder), free_port())
        running.sign_in_url = running.start()["sign_in_url"]
        try:
            yield running
        finally:
            running.stop()


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def signed_in(product: Product, chromium: Browser) -> Iterator[dict[str, object]]:
    """The cookies of the first operator, taken once: the link works once."""
    context = chromium.new_context(base_url=product.url)
    page = context.new_page()
    page.goto(product.sign_in_url)
    page.wait_for_url("**/o/**")
    yield context.storage_state()
    context.close()


@pytest.fixture
def context(product: Product, chromium: Browser, signed_in: dict[str, object]) -> Iterator[BrowserContext]:
    opened = chromium.new_context(
        base_url=product.url, storage_state=signed_in, viewport={"width": 1440, "height": 900}
    )
    yield opened
    opened.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.expected_complaints = []
    yield opened
    unexpected = [text for text in complaints if not any(known in text for known in opened.expected_complaints)]
    assert unexpected == []
