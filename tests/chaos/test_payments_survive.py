"""Real processes are killed while customers pay; nobody is charged twice, and everybody gets what was paid for."""

from __future__ import annotations

import itertools
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.product import Product, free_port, wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.enable_socket]

METHODS = ("sim_ok", "sim_unknown", "sim_duplicate_webhook", "sim_reordered_webhook", "sim_declined")
FINAL = {"succeeded", "failed", "cancelled"}
CUSTOMERS = 3
PAYMENTS = 6
CREDITS = 10


class Customer:
    """Pays again and again with one key until there is an answer, as a good client does."""

    def __init__(self, product: Product, name: str) -> None:
        self.product = product
        self.key: str = product.account(name, "--credits", "1")["api_key"]
        self.answers: list[dict[str, Any]] = []
        self.thread = threading.Thread(target=self._pay_all, daemon=True)

    def _pay_all(self) -> None:
        for number, method in zip(range(PAYMENTS), itertools.cycle(METHODS), strict=False):
            self.answers.append(self._pay(f"payment-{number}", method))

    def _pay(self, once: str, method: str) -> dict[str, Any]:
        body = {"credits": str(CREDITS), "payment_method": method}
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            try:
                status, answer = self.product.call("POST", "topups", self.key, body, timeout=30, once=once)
            except OSError:
                status, answer = 0, {}
            if status == 201:
                return dict(answer)
            time.sleep(0.2)
        raise AssertionError(f"no answer to {once}")

    def payments(self) -> list[dict[str, Any]]:
        status, answer = self.product.call("GET", "payments?page_size=200", self.key)
        assert status == 200, answer
        return list(answer["results"])

    def available(self) -> Decimal:
        status, answer = self.product.call("GET", "account/balance", self.key)
        assert status == 200, answer
        return Decimal(answer["available"])


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    """With a clock that can be moved, since some of what happens to a payment takes its time."""
    with tempfile.TemporaryDirectory(prefix="ntd-chaos-") as folder:
        running = Product(Path(folder), free_port())
        running.environment |= {"NTD_TEST_CLOCK": "1", "DEBUG": "1"}
        running.start("--no-sample")
        try:
            yield running
        finally:
            running.stop()


@pytest.fixture(scope="module")
def staff(product: Product) -> str:
    return str(product.account("Stella", "--staff")["api_key"])


@pytest.fixture
def customers(product: Product, request: pytest.FixtureRequest) -> list[Customer]:
    victim = request.node.callspec.params["victim"]
    made = [Customer(product, f"Pays {victim} {number}") for number in range(CUSTOMERS)]
    for each in made:
        each.thread.start()
    return made


# What the gateway says for sure of a payment that nobody received is known when it is given up, ten minutes later.
GIVEN_UP_SECONDS = 700


@pytest.mark.parametrize("victim", ["web", "worker", "valkey", "postgres"])
def test_killing_a_part_charges_nobody_twice_and_loses_no_payment(
    product: Product,
    staff: str,
    customers: list[Customer],
    victim: str,
) -> None:
    wait_until(lambda: any(each.answers for each in customers), 60, "nobody pays")

    os.kill(product.part(victim), signal.SIGKILL)

    for each in customers:
        each.thread.join(timeout=120)
        assert len(each.answers) == PAYMENTS
    _pass_time(product, staff, GIVEN_UP_SECONDS)
    wait_until(lambda: all(_all_final(each) for each in customers), 60, "some outcomes are never known")
    for each in customers:
        found = each.payments()
        assert len(found) == PAYMENTS
        assert {payment["id"] for payment in found} == {answer["id"] for answer in each.answers}
        paid = [payment for payment in found if payment["state"] == "succeeded"]
        # Only what never reached the gateway may have failed beside the declined ones.
        others = {payment["failure_code"] for payment in found} - {"", "card_declined"}
        assert others <= {"not_received"}
        assert each.available() == 1 + CREDITS * len(paid)
    assert "BROKEN" not in product.manage("verify_ledger")


def _all_final(customer: Customer) -> bool:
    try:
        return {payment["state"] for payment in customer.payments()} <= FINAL
    except (OSError, AssertionError):
        return False


def _pass_time(product: Product, staff: str, seconds: int) -> None:
    """At least so much; what was killed may still be coming back."""

    def passes() -> bool:
        try:
            return product.call("POST", "test/clock", staff, {"advance_seconds": seconds})[0] == 200
        except OSError:
            return False

    wait_until(passes, 60, "the clock is not moved")
