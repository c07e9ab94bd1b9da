"""Pure. A period in money: its lines, what credits covered of it, and what is due.

Each line is rounded once, and the subtotal is the sum of the lines. Tax is taken once of the subtotal.
Credits cover everything but what was drawn on an overdraft and is still owed (`due_ucr`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from billing import amounts, pricing

# What holds for no meter captured.
OTHER, OTHER_NAME = "other", "Captured from holds"


@dataclass(frozen=True)
class Used:
    """What was used of one meter at one price, and what was charged for it."""

    price: pricing.Price
    quantity: Decimal
    cost_ucr: int


@dataclass(frozen=True)
class Line:
    meter: str
    description: str
    quantity: Decimal
    unit: str
    unit_price: str
    per: Decimal
    per_unit: str
    cost_ucr: int
    amount: int

    @property
    def priced_quantity(self) -> Decimal:
        """In the unit people know the price by: hours, not seconds."""
        return self.quantity / self.per


@dataclass(frozen=True)
class Statement:
    currency: str
    lines: tuple[Line, ...]
    tax_rate: Decimal
    subtotal: int
    tax: int
    total: int
    credits_applied: int
    amount_due: int
    due_ucr: int
    # Why there is no tax on it.
    tax_note: str = ""


def state(
    used: Iterable[Used], *, due_ucr: int, tax_rate: Decimal, credit_price: str, currency: str, tax_note: str = "",
    captured_ucr: int = 0,
) -> Statement:  # fmt: skip
    """The statement of what was used, and captured of holds for no meter, of which `due_ucr` is owed."""
    lines = tuple(_line(each, credit_price=credit_price, currency=currency) for each in used)
    if captured_ucr:
        lines += (_captured(captured_ucr, credit_price=credit_price, currency=currency),)
    subtotal = sum(line.amount for line in lines)
    cost_ucr = sum(line.cost_ucr for line in lines)
    due_ucr = min(due_ucr, cost_ucr)
    due_net = min(subtotal, amounts.money_of_ucr(due_ucr, credit_price=credit_price, currency=currency))
    if due_ucr == cost_ucr:
        due_net = subtotal  # Credits covered nothing, also where the lines' rounding says otherwise.
    tax = _tax(subtotal, tax_rate)
    amount_due = due_net + min(tax, _tax(due_net, tax_rate))
    total = subtotal + tax
    return Statement(
        currency=currency,
        lines=lines,
        tax_rate=tax_rate,
        subtotal=subtotal,
        tax=tax,
        total=total,
        credits_applied=total - amount_due,
        amount_due=amount_due,
        due_ucr=due_ucr,
        tax_note=tax_note,
    )


def _line(used: Used, *, credit_price: str, currency: str) -> Line:
    price = used.price
    one_rate = price.shape in (pricing.Shape.PER_UNIT, pricing.Shape.PACKAGE)
    rate = Fraction(price.amount_ucr, amounts.UCR) * Fraction(credit_price)
    return Line(
        meter=price.meter,
        description=price.name,
        quantity=used.quantity,
        unit=pricing.UNITS[price.meter],
        unit_price=amounts.exact_money_text(rate, currency) if one_rate else "",
        per=price.per,
        per_unit=price.unit,
        cost_ucr=used.cost_ucr,
        amount=amounts.money_of_ucr(used.cost_ucr, credit_price=credit_price, currency=currency),
    )


def _captured(cost_ucr: int, *, credit_price: str, currency: str) -> Line:
    return Line(
        meter=OTHER,
        description=OTHER_NAME,
        quantity=Decimal(cost_ucr) / amounts.UCR,
        unit="credit",
        unit_price=amounts.exact_money_text(Fraction(credit_price), currency),
        per=Decimal(1),
        per_unit="credit",
        cost_ucr=cost_ucr,
        amount=amounts.money_of_ucr(cost_ucr, credit_price=credit_price, currency=currency),
    )


def _tax(net: int, rate: Decimal) -> int:
    return amounts.half_even(net * Fraction(rate))


def still_owed(*, debt_ucr: int, drawn_later_ucr: int, drawn_ucr: int) -> int:
    """How much of what a period drew on the overdraft is still owed, when the oldest debt is repaid first."""
    return min(drawn_ucr, max(0, debt_ucr - drawn_later_ucr))
